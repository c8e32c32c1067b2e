//! Every directive that is known: where nginx takes it, and what becomes of those that no other part of the importer reads.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Where a directive may stand.
pub(super) type Contexts = u16;

pub(super) const MAIN: Contexts = 1;
pub(super) const EVENTS: Contexts = 1 << 1;
pub(super) const HTTP: Contexts = 1 << 2;
pub(super) const SERVER: Contexts = 1 << 3;
pub(super) const LOCATION: Contexts = 1 << 4;
pub(super) const IF: Contexts = 1 << 5;
pub(super) const EXCEPT: Contexts = 1 << 6;
pub(super) const UPSTREAM: Contexts = 1 << 7;
pub(super) const STREAM: Contexts = 1 << 8;
pub(super) const STREAM_SERVER: Contexts = 1 << 9;
pub(super) const STREAM_UPSTREAM: Contexts = 1 << 10;
pub(super) const MATCH: Contexts = 1 << 11;
/// An `if` of a server.
pub(super) const SERVER_IF: Contexts = 1 << 12;

const HSL: Contexts = HTTP | SERVER | LOCATION;
const HSLI: Contexts = HSL | IF;
const HS: Contexts = HTTP | SERVER;
const LI: Contexts = LOCATION | IF;
const ANY: Contexts = u16::MAX;
const TS: Contexts = STREAM | STREAM_SERVER;
const EVERY: Contexts = HSL | TS;

/// What becomes of a directive that nothing else reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is read; what nobody has asked for has no use.
    Read,
    /// Nothing stands for it, and why.
    Skip(&'static str),
    /// What to do instead.
    Cannot(&'static str),
}

use Fate::{Cannot, Read, Skip};

type Row = (&'static [&'static str], Contexts, Fate);

/// The contexts and the fate of a directive; nothing of one that no module of nginx has.
#[must_use]
pub(super) fn find(name: &str) -> Option<(Contexts, Fate)> {
    static ALL: LazyLock<HashMap<&str, (Contexts, Fate)>> = LazyLock::new(|| {
        let mut all: HashMap<&str, (Contexts, Fate)> = HashMap::new();
        for (names, contexts, fate) in ROWS.iter().chain(FILES).chain(READ) {
            for name in *names {
                let row = all.entry(name).or_insert((0, *fate));
                row.0 |= contexts;
            }
        }
        all
    });
    ALL.get(name).copied().or_else(|| by_start(name))
}

/// Families of directives that have one fate.
fn by_start(name: &str) -> Option<(Contexts, Fate)> {
    const FAMILIES: &[(&str, Fate)] = &[
        ("fastcgi_", Cannot(ONLY_HTTP)),
        ("uwsgi_", Cannot(ONLY_HTTP)),
        ("scgi_", Cannot(ONLY_HTTP)),
        ("memcached_", Cannot(ONLY_HTTP)),
        ("proxy_cache", Cannot("nothing is cached here: keep a cache behind it, or in the application")),
        ("perl", Cannot("no code runs here: let an endpoint do it")),
        ("js_", Cannot("no code runs here: let an endpoint do it")),
        ("mail", Cannot("mail is relayed as tcp: listeners with protocol = \"tcp\"")),
        ("auth_jwt", Cannot("tokens are looked at by a service that forward_auth asks")),
        ("auth_oidc", Cannot("tokens are looked at by a service that forward_auth asks")),
        ("geoip", Cannot("a CDN's field for the country, or networks: `source` of a route")),
        ("image_filter", Cannot("bodies are passed on as they are: let an endpoint do it")),
        ("xslt_", Cannot("bodies are passed on as they are: let an endpoint do it")),
        ("dav_", Cannot("no files are served here: let a web server be an endpoint")),
        ("zone_sync", Skip("nodes share no state: sticky cookies are signed, so every node takes them")),
        ("otel_", Cannot("[tracing] has otlp")),
        ("opentracing", Cannot("[tracing] has otlp")),
        (
            "modsecurity",
            Cannot("no code runs here: a service that forward_auth asks, or one in front of the endpoints"),
        ),
        ("lua_", Cannot("no code runs here: let an endpoint do it")),
        ("quic_", Cannot("HTTP/3 is not spoken: HTTP/2 is")),
        ("http3", Cannot("HTTP/3 is not spoken: HTTP/2 is")),
        ("spdy_", Skip("SPDY is gone: HTTP/2 is spoken")),
        ("aio", Skip("no files are served here")),
        ("f4f", Cannot(NO_FILES)),
        ("hls", Cannot(NO_FILES)),
        ("mp4", Cannot(NO_FILES)),
        ("secure_link", Cannot("links are not checked here: a service that forward_auth asks can")),
    ];
    let lua = name.ends_with("_by_lua") || name.ends_with("_by_lua_block") || name.ends_with("_by_lua_file");
    if lua {
        return Some((ANY, Cannot("no code runs here: let an endpoint do it")));
    }
    FAMILIES.iter().find(|(start, _)| name.starts_with(start)).map(|(_, fate)| (ANY, *fate))
}

const ONLY_HTTP: &str =
    "only HTTP is spoken with endpoints: keep a web server that speaks it, and make it the endpoint";
pub(super) const NO_FILES: &str =
    "no files are served here: keep a web server for them, and make it an endpoint";
const PROCESS: &str = "it belongs to nginx's own processes: the unit of systemd and [process] say it here";
const SOCKETS: &str = "how bytes are moved is not set here";
const BUFFERS: &str = "memory for heads and bodies is bounded by limits of its own here ([listener.NAME.limits], [pool.NAME.limits])";
const HASHES: &str = "it sizes a table of nginx's";
const FILE_CACHE: &str = "no files are served here";
const LOGS: &str =
    "the access log has one record for each request with fields of its own ([log] access, format)";

static ROWS: &[Row] = &[
    (
        &[
            "user",
            "worker_processes",
            "worker_cpu_affinity",
            "worker_priority",
            "worker_rlimit_core",
            "pid",
            "daemon",
            "master_process",
            "pcre_jit",
            "thread_pool",
            "timer_resolution",
            "lock_file",
            "ssl_engine",
            "working_directory",
            "debug_points",
            "env",
            "load_module",
            "google_perftools_profiles",
            "init_by_lua",
            "ssl_object_cache_inheritable",
        ],
        MAIN,
        Skip(PROCESS),
    ),
    (&["worker_rlimit_nofile"], MAIN, Skip("the limit on descriptors is LimitNOFILE of the unit")),
    (
        &["worker_shutdown_timeout"],
        MAIN,
        Skip("a reload cuts no connection here; [process] drain_timeout is for the end"),
    ),
    (&["events"], MAIN, Skip(PROCESS)),
    (
        &["worker_connections"],
        EVENTS,
        Skip("max_connections of each listener and LimitNOFILE bound connections"),
    ),
    (
        &[
            "use",
            "multi_accept",
            "accept_mutex",
            "accept_mutex_delay",
            "debug_connection",
            "worker_aio_requests",
        ],
        EVENTS,
        Skip(PROCESS),
    ),
    (&["error_log"], ANY, Skip("[log] has the level; the log goes to standard error, as systemd keeps it")),
    (
        &["access_log", "log_subrequest", "log_not_found", "open_log_file_cache"],
        HSL | IF | EXCEPT | TS,
        Skip(LOGS),
    ),
    (&["log_format"], HTTP | STREAM, Skip(LOGS)),
    (&["rewrite_log", "uninitialized_variable_warn"], HSLI, Skip(LOGS)),
    (
        &[
            "sendfile",
            "sendfile_max_chunk",
            "tcp_nopush",
            "tcp_nodelay",
            "postpone_output",
            "output_buffers",
            "directio",
            "directio_alignment",
            "read_ahead",
            "subrequest_output_buffer_size",
            "max_ranges",
            "proxy_socket_keepalive",
            "proxy_send_lowat",
            "grpc_socket_keepalive",
            "preread_buffer_size",
            "proxy_half_close",
        ],
        EVERY | IF,
        Skip(SOCKETS),
    ),
    (
        &[
            "client_header_buffer_size",
            "client_body_buffer_size",
            "client_body_in_single_buffer",
            "client_body_in_file_only",
            "client_body_temp_path",
            "connection_pool_size",
            "request_pool_size",
            "proxy_buffer_size",
            "proxy_buffers",
            "proxy_busy_buffers_size",
            "proxy_max_temp_file_size",
            "proxy_temp_file_write_size",
            "proxy_temp_path",
            "grpc_buffer_size",
            "proxy_headers_hash_max_size",
            "proxy_headers_hash_bucket_size",
            "proxy_connection_upgrade",
        ],
        EVERY,
        Skip(BUFFERS),
    ),
    (
        &[
            "map_hash_bucket_size",
            "map_hash_max_size",
            "server_names_hash_bucket_size",
            "server_names_hash_max_size",
            "types_hash_bucket_size",
            "types_hash_max_size",
            "variables_hash_bucket_size",
            "variables_hash_max_size",
            "grpc_headers_hash_bucket_size",
            "grpc_headers_hash_max_size",
        ],
        EVERY,
        Skip(HASHES),
    ),
    (
        &[
            "open_file_cache",
            "open_file_cache_errors",
            "open_file_cache_min_uses",
            "open_file_cache_valid",
            "etag",
            "if_modified_since",
            "disable_symlinks",
            "types",
            "chunked_transfer_encoding",
            "gzip_static",
            "brotli_static",
            "gunzip",
            "recursive_error_pages",
            "msie_padding",
            "msie_refresh",
            "charset",
            "charset_map",
            "charset_types",
            "source_charset",
            "override_charset",
        ],
        HSLI,
        Skip(FILE_CACHE),
    ),
    (
        &["server_tokens"],
        HSL,
        Skip("our own answers have no Server; an endpoint's goes on unless response_headers remove it"),
    ),
    (
        &["lingering_close", "lingering_time", "lingering_timeout"],
        HSL,
        Skip("limits.linger and timeouts.linger of a listener do it"),
    ),
    (&["reset_timedout_connection"], HSL, Skip("connections that are too slow are closed")),
    (
        &["keepalive_disable", "keepalive_requests", "keepalive_time"],
        HSL,
        Skip("connections stay as long as they are used"),
    ),
    (
        &["ignore_invalid_headers", "underscores_in_headers"],
        HS,
        Skip("names of fields are what RFC 9110 allows, the underscore too; others are refused"),
    ),
    (&["merge_slashes"], HS, Skip("paths are compared in normal form, where // is /")),
    (&["max_headers"], HS, Skip("limits.fields of a listener bounds them")),
    (
        &["port_in_redirect", "absolute_redirect", "server_name_in_redirect"],
        HSL,
        Skip("a redirect says the whole URL, with the host and port that the client asked for"),
    ),
    (
        &[
            "http2_max_concurrent_streams",
            "http2_max_field_size",
            "http2_max_header_size",
            "http2_max_requests",
            "http2_recv_timeout",
            "http2_idle_timeout",
            "http2_chunk_size",
            "http2_body_preread_size",
            "http2_recv_buffer_size",
            "http2_max_concurrent_pushes",
        ],
        HSL,
        Skip("[listener.NAME.limits.http2] bounds what a connection may do"),
    ),
    (&["http2_push", "http2_push_preload"], HSL, Skip("nothing is pushed, as browsers no longer take it")),
    (
        &["resolver_timeout"],
        EVERY | UPSTREAM,
        Skip("names are looked up beside the traffic, which never waits for that"),
    ),
    (&["variables"], ANY, Skip(HASHES)),
    (
        &["ssl_session_cache", "ssl_session_timeout", "ssl_session_tickets"],
        HS | TS,
        Skip("sessions are resumed by tickets, whose keys change by themselves"),
    ),
    (
        &[
            "ssl_prefer_server_ciphers",
            "ssl_dhparam",
            "ssl_buffer_size",
            "ssl_ecdh_curve",
            "ssl_conf_command",
            "ssl_early_data",
        ],
        HS | TS,
        Skip("TLS here has safe ciphers and curves only, and no early data"),
    ),
    (&["ssl_ciphers"], HS | TS, Skip("TLS here has safe ciphers and curves only")),
    (
        &["ssl_stapling", "ssl_stapling_verify", "ssl_stapling_responder"],
        HS | TS,
        Skip(
            "a certificate is stapled from a file: `ocsp` of tls.certificates; authorities are giving OCSP up",
        ),
    ),
    (&["ssl_trusted_certificate"], HS | TS, Skip("it serves OCSP; clients are verified by client_ca")),
    (
        &["ssl_verify_depth", "proxy_ssl_verify_depth", "grpc_ssl_verify_depth"],
        EVERY,
        Skip("chains are verified to their end, within the bounds of the library"),
    ),
    (&["ssl_handshake_timeout"], TS, Read),
    (&["ssl_alpn"], TS, Read),
    (&["proxy_ssl_session_reuse", "grpc_ssl_session_reuse"], EVERY, Skip("sessions are resumed")),
    (
        &["proxy_ssl_ciphers", "grpc_ssl_ciphers", "proxy_ssl_conf_command", "grpc_ssl_conf_command"],
        EVERY,
        Skip("TLS here has safe ciphers and curves only"),
    ),
    (&["proxy_http_version"], HSL, Skip("HTTP/1.1 is spoken with endpoints, and connections are kept")),
    (
        &["proxy_ignore_client_abort", "grpc_ignore_client_abort"],
        HSL,
        Skip("a request whose client has gone is given up"),
    ),
    (
        &["proxy_pass_request_headers", "proxy_force_ranges"],
        HSL,
        Skip("requests go on with all of their fields"),
    ),
    (
        &["proxy_ignore_headers", "grpc_ignore_headers"],
        HSL,
        Skip("X-Accel fields of endpoints mean nothing here"),
    ),
    (
        &["proxy_pass_header", "grpc_pass_header"],
        HSL,
        Skip("every field of an endpoint's answer goes on, unless response_headers remove it"),
    ),
    (
        &["status_zone"],
        SERVER | LOCATION | IF | STREAM_SERVER,
        Skip("/metrics counts by listener, route, pool and endpoint"),
    ),
    (&["keepalive_min_timeout"], HSL, Skip("connections stay as long as they are used")),
    (
        &["proxy_cookie_domain", "proxy_cookie_path", "proxy_cookie_flags"],
        HSL,
        Cannot("cookies of endpoints go on as they are: let the application set what browsers need"),
    ),
    (
        &["proxy_store", "proxy_store_access", "proxy_no_cache"],
        HSL,
        Cannot("nothing is cached here: keep a cache behind it, or in the application"),
    ),
    (&["slice"], HSL, Cannot("nothing is cached here: keep a cache behind it, or in the application")),
    (
        &[
            "sub_filter",
            "sub_filter_once",
            "sub_filter_types",
            "sub_filter_last_modified",
            "addition_types",
            "add_before_body",
            "add_after_body",
            "ssi",
            "ssi_types",
            "ssi_silent_errors",
        ],
        HSLI,
        Cannot("bodies are passed on as they are: let an endpoint do it"),
    ),
    (&["add_trailer"], HSLI, Cannot("trailers of endpoints go on, and none are added")),
    (
        &["limit_rate_after"],
        HSLI,
        Cannot("bandwidth is bounded from the first byte on (limits.bandwidth_out of a listener)"),
    ),
    (
        &["proxy_limit_rate", "limit_upstream_conn"],
        HSL,
        Cannot("bandwidth is bounded on the client's side (limits.bandwidth_out of a listener)"),
    ),
    (
        &["ssl_crl", "proxy_ssl_crl", "grpc_ssl_crl", "ssl_ocsp", "ssl_ocsp_cache", "ssl_ocsp_responder"],
        EVERY,
        Cannot("lists of revoked certificates are not read: give out certificates that live shortly"),
    ),
    (
        &["ssl_password_file", "proxy_ssl_password_file", "grpc_ssl_password_file"],
        EVERY,
        Cannot("keys are read without a password: openssl pkey takes it off; protect the file by its mode"),
    ),
    (
        &["ssl_session_ticket_key"],
        HS | TS,
        Cannot(
            "keys for tickets are lines of text here: write a file of them, and name it in tls.ticket_keys",
        ),
    ),
    (
        &["ssl_certificate_cache", "ssl_certificate_compression"],
        HS | TS,
        Skip("certificates are read at each load"),
    ),
    (&["upstream_conf"], LOCATION, Cannot("the admin API changes pools while they serve")),
    (&["proxy_set_body"], HSL, Cannot("bodies are passed on as they are: let an endpoint do it")),
    (&["proxy_method"], HSL, Cannot("a request keeps its method: let the endpoint take that")),
    (&["proxy_pass_request_body"], HSL, Read),
    (
        &[
            "override_variables",
            "random_index",
            "autoindex",
            "autoindex_exact_size",
            "autoindex_format",
            "autoindex_localtime",
        ],
        HSL,
        Cannot(NO_FILES),
    ),
    (&["empty_gif"], LOCATION, Cannot(NO_FILES)),
    (&["mirror_request_body"], HSL, Read),
    (&["auth_delay"], HSL, Skip("checks of passwords are bounded by max_checks, and take their time")),
    (&["state"], UPSTREAM | STREAM_UPSTREAM, Skip("endpoints that the admin API adds are kept in state_dir")),
    (
        &["ntlm"],
        UPSTREAM,
        Cannot(
            "a connection to an endpoint is not kept for one client, which NTLM needs: use Kerberos or cookies, or relay as tcp",
        ),
    ),
    (
        &[
            "userid",
            "userid_domain",
            "userid_expires",
            "userid_flags",
            "userid_mark",
            "userid_name",
            "userid_p3p",
            "userid_path",
            "userid_service",
        ],
        HSL,
        Cannot("visitors are not numbered: let the application do it"),
    ),
    (&["health_check_timeout"], EVERY, Read),
    (&["proxy_bind", "grpc_bind"], EVERY, Read),
    (
        &[
            "ssl_preread",
            "pass",
            "proxy_requests",
            "proxy_responses",
            "proxy_upload_rate",
            "proxy_download_rate",
            "proxy_protocol_timeout",
            "preread_timeout",
            "proxy_protocol",
            "proxy_timeout",
        ],
        TS,
        Read,
    ),
    (
        &["modern_browser", "ancient_browser", "ancient_browser_value", "modern_browser_value"],
        HSL,
        Cannot("ask for the field: headers = { user-agent = { regex = \"...\" } } of a route"),
    ),
    (&["stub_status"], SERVER | LOCATION, Read),
    (&["api", "status"], LOCATION, Read),
];

/// What serves files, which nothing here does.
static FILES: &[Row] = &[
    (&["root"], HSLI, Read),
    (
        &["alias", "try_files", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "memcached_pass", "flv", "mp4"],
        SERVER | LI | EXCEPT,
        Read,
    ),
    (&["index"], HSL, Read),
];

/// What other parts of the importer read.
static READ: &[Row] = &[
    (&["include"], ANY, Read),
    (&["http", "stream"], MAIN, Read),
    (&["mail"], MAIN, Cannot("mail is relayed as tcp: listeners with protocol = \"tcp\"")),
    (&["server"], HTTP | UPSTREAM | STREAM | STREAM_UPSTREAM, Read),
    (&["upstream"], HTTP | STREAM, Read),
    (&["map", "geo", "split_clients"], HTTP | STREAM, Read),
    (&["match"], HTTP | STREAM, Read),
    (&["limit_req_zone"], HTTP, Read),
    (&["limit_conn_zone"], HTTP | STREAM, Read),
    (&["location"], SERVER | LOCATION, Read),
    (&["listen", "server_name"], SERVER | STREAM_SERVER, Read),
    (&["if"], SERVER | LOCATION, Read),
    (&["limit_except"], LOCATION, Read),
    (&["rewrite", "return", "set", "break"], SERVER | LI | SERVER_IF | STREAM_SERVER, Read),
    (&["proxy_pass"], LI | EXCEPT | STREAM_SERVER, Read),
    (&["grpc_pass"], LI, Read),
    (&["internal"], LOCATION, Read),
    (
        &[
            "proxy_set_header",
            "grpc_set_header",
            "proxy_hide_header",
            "grpc_hide_header",
            "proxy_connect_timeout",
            "proxy_next_upstream",
            "proxy_next_upstream_tries",
            "proxy_next_upstream_timeout",
            "grpc_connect_timeout",
            "grpc_read_timeout",
            "grpc_send_timeout",
            "grpc_next_upstream",
            "grpc_next_upstream_tries",
            "grpc_next_upstream_timeout",
            "proxy_read_timeout",
            "proxy_send_timeout",
            "proxy_buffering",
            "proxy_request_buffering",
            "proxy_intercept_errors",
            "grpc_intercept_errors",
            "proxy_redirect",
            "client_max_body_size",
            "client_body_timeout",
            "send_timeout",
            "keepalive_timeout",
            "limit_req",
            "limit_conn",
            "limit_req_status",
            "limit_conn_status",
            "limit_req_dry_run",
            "limit_conn_dry_run",
            "limit_req_log_level",
            "limit_conn_log_level",
            "error_page",
            "auth_request",
            "auth_request_set",
            "satisfy",
            "set_real_ip_from",
            "real_ip_header",
            "real_ip_recursive",
            "proxy_ssl_certificate",
            "proxy_ssl_certificate_key",
            "proxy_ssl_name",
            "proxy_ssl_protocols",
            "proxy_ssl_server_name",
            "proxy_ssl_trusted_certificate",
            "proxy_ssl_verify",
            "grpc_ssl_certificate",
            "grpc_ssl_certificate_key",
            "grpc_ssl_name",
            "grpc_ssl_protocols",
            "grpc_ssl_server_name",
            "grpc_ssl_trusted_certificate",
            "grpc_ssl_verify",
            "mirror",
            "gzip_types",
            "gzip_min_length",
            "gzip_comp_level",
            "gzip_vary",
            "gzip_proxied",
            "gzip_disable",
            "gzip_http_version",
            "gzip_buffers",
            "brotli_types",
            "brotli_min_length",
            "brotli_comp_level",
            "brotli_window",
            "brotli_buffers",
            "default_type",
            "resolver",
        ],
        HSL | STREAM | STREAM_SERVER | UPSTREAM,
        Read,
    ),
    (&["proxy_ssl"], TS, Read),
    (&["auth_basic", "auth_basic_user_file", "allow", "deny"], HSL | EXCEPT | TS, Read),
    (&["add_header", "expires", "gzip", "brotli", "limit_rate"], HSLI, Read),
    (&["client_header_timeout", "large_client_header_buffers"], HS, Read),
    (
        &[
            "ssl",
            "ssl_certificate",
            "ssl_certificate_key",
            "ssl_protocols",
            "ssl_client_certificate",
            "ssl_verify_client",
            "ssl_reject_handshake",
            "http2",
        ],
        HS | TS,
        Read,
    ),
    (&["health_check"], LOCATION | STREAM_SERVER, Read),
    (&["valid_referers"], SERVER | LOCATION, Read),
    (&["referer_hash_bucket_size", "referer_hash_max_size"], SERVER | LOCATION, Skip(HASHES)),
    (
        &[
            "ip_hash",
            "least_conn",
            "least_time",
            "random",
            "hash",
            "zone",
            "keepalive",
            "queue",
            "sticky",
            "sticky_cookie_insert",
            "keepalive_timeout",
            "keepalive_requests",
            "keepalive_time",
        ],
        UPSTREAM | STREAM_UPSTREAM,
        Read,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_known_with_their_places() {
        assert_eq!(find("proxy_pas"), None);
        assert!(find("limit_req_zone").is_some_and(|(contexts, _)| contexts & SERVER == 0));
        assert!(find("fastcgi_param").is_some_and(|(_, fate)| matches!(fate, Cannot(_))));
        assert!(find("keepalive_timeout").is_some_and(|(contexts, _)| contexts & UPSTREAM != 0));
    }
}
