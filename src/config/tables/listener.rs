//! The keys of `[listener.NAME]` and of the tables in it, as data.

use super::super::form::Form;
use super::super::key::{Given, Key, Kind, Section, Word};
use super::admission::LISTENER_CLASS;
use super::gate::ERROR_PAGES;
use super::{TIMEOUT, number, size};
use Given::{Default, Optional, Required};

pub(in super::super) static LISTENER: Section = Section::new(
    "A listener: one or more bound addresses and a protocol.",
    &[
        Key::new(
            "bind",
            Kind::List { of: &Kind::Text(Form::BindAny), min: 1 },
            Required(r#"["127.0.0.1:8080"]"#),
            "Addresses; \"[::]:80\" binds IPv6 only. \"unix:/path\" is a unix socket, whose clients have no address: rules, records \
             and X-Forwarded-For know them as 0.0.0.0. Its file is replaced when nobody listens on it, and goes with the listener.",
        )
        .own(),
        Key::new(
            "unix_mode",
            Kind::Choice(&[Word::new("0600"), Word::new("0660"), Word::new("0666")]),
            Default(r#""0660""#),
            "Who may connect to its unix sockets, as the mode of the file.",
        ),
        Key::new(
            "protocol",
            Kind::Choice(&[Word::new("http"), Word::new("tcp"), Word::new("udp")]),
            Default(r#""http""#),
            "http goes on by routes, tcp and udp to one pool.",
        ),
        Key::new("pool", Kind::Text(Form::Name), Optional(r#""api""#), "The pool of a tcp or udp listener; where routes with `sni` serve it, of the clients that none of them takes, \
             who without it are reset.").own(),
        Key::new(
            "trusted_proxies",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks whose X-Forwarded-*, X-Real-IP, CF-Connecting-IP and Forwarded fields, and PROXY headers, are believed; \"unix:\" is who connects to a unix socket.",
        ),
        Key::new(
            "client_address",
            Kind::Choice(&[
                Word::new("x-forwarded-for"),
                Word::new("forwarded"),
                Word::new("cf-connecting-ip"),
                Word::new("x-real-ip"),
                Word::new("proxy-protocol"),
            ]),
            Default(r#""x-forwarded-for""#),
            "In which field a trusted peer names the client: also forwarded, cf-connecting-ip, x-real-ip. A list is walked from the \
             right to the first address that is not trusted. proxy-protocol: in the PROXY header of its connection alone, and no \
             field of a request is believed. The address found is the client's for routes, hashes, records and \
             X-Real-IP; allow, deny and max_connections_per_source go by whom the connection is from.",
        ),
        Key::new(
            "trusted_hops",
            number(0, 100),
            Default("0"),
            "How many proxies stand before this one, the peer among them: then of what a trusted peer says so many elements from \
             the right is the client, whatever stands between (Envoy's xff_num_trusted_hops). 0 goes by trusted_proxies alone.",
        ),
        Key::new(
            "forwarded",
            Kind::Choice(&[Word::new("x-forwarded"), Word::new("rfc7239"), Word::new("both"), Word::new("off")]),
            Default(r#""x-forwarded""#),
            "In which fields endpoints are told of the client: X-Forwarded-For, -Proto, -Host and X-Real-IP, or Forwarded (RFC 7239), \
             or both; off adds none. Lists of trusted peers are extended, what others have written is left out.",
        ),
        Key::new(
            "max_connections",
            number(1, 10_000_000),
            Default("20000"),
            "Connections at once; at the ceiling accepting pauses. Of a udp listener sessions: at the ceiling one that has been quiet for a second \
             gives way, else the newcomer's datagram is dropped. Also bounded by the descriptor limit.",
        ),
        Key::new(
            "max_connections_per_source",
            number(0, 10_000_000),
            Default("0"),
            "Connections at once of one source address; 0 is no limit.",
        ),
        Key::new(
            "allow",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks that may connect; empty is all.",
        ),
        Key::new(
            "deny",
            Kind::List { of: &Kind::Text(Form::Network), min: 0 },
            Default("[]"),
            "Networks that may not connect.",
        ),
        Key::new(
            "error_pages",
            ERROR_PAGES,
            Default("{}"),
            "Of an http listener: pages in the place of this proxy's errors, by status (\"503\"), range (\"500-504\") or class \
             (\"5xx\"). A request that cannot be read gets none.",
        ),
        Key::new(
            "freebind",
            Kind::Bool,
            Default("false"),
            "Bind an address that is not (yet) here: a floating one.",
        ),
        Key::new(
            "h2c",
            Kind::Bool,
            Default("false"),
            "HTTP/2 in the clear by prior knowledge, beside HTTP/1 on the same addresses.",
        ),
        LISTENER_CLASS,
        Key::new("limits", Kind::Table(&LISTENER_LIMITS), Default("{}"), "Sizes of requests."),
        Key::new("timeouts", Kind::Table(&LISTENER_TIMEOUTS), Default("{}"), "Times; none is infinite."),
        Key::new(
            "accept_proxy_protocol",
            Kind::Bool,
            Default("false"),
            "Whether connections of trusted_proxies begin with a PROXY header, version 1 or 2; without one they are closed. \
             The client that it names takes the peer's place everywhere. From others no header is taken.",
        ),
        Key::new(
            "tls",
            Kind::Or("off", &Kind::Table(&LISTENER_TLS)),
            Optional(r#"{ certificates = [{ cert = "app.crt", key = "app.key" }] }"#),
            "TLS, which a tcp listener takes off before it relays; the files are read again with every reload.",
        ),
        Key::new(
            "when_empty",
            Kind::Or("reset", &Kind::Or("stop_listening", &Kind::Table(&HOLD))),
            Optional(r#""reset""#),
            "What connections of a tcp listener get when no endpoint of the pool and its failover accepts: \"reset\" (the default), \
             \"stop_listening\" (after 3 s without any), or { hold = \"30s\", max = 1000 }.",
        ),
    ],
);

static HOLD: Section = Section::new(
    "Connections that wait for an endpoint.",
    &[
        Key::new("hold", TIMEOUT, Default(r#""30s""#), "How long a connection waits, then it is reset."),
        Key::new(
            "max",
            number(1, 1_000_000),
            Default("1000"),
            "How many wait at once; the others are reset.",
        ),
    ],
);

static LISTENER_LIMITS: Section = Section::new(
    "Sizes of requests.",
    &[
        Key::new("head", size(1 << 10, 1 << 20), Default(r#""64KiB""#), "A whole request head (431)."),
        Key::new(
            "fields",
            number(1, 10_000),
            Default("128"),
            "Fields of a request head or trailer section (431).",
        ),
        Key::new(
            "target",
            size(64, 1 << 20),
            Default(r#""8KiB""#),
            "A request target (414); no more than head.",
        ),
        Key::new(
            "chunk_extensions",
            size(0, 1 << 20),
            Default(r#""16KiB""#),
            "Chunk extensions of one request body (400): padding bytes with them is an attack.",
        ),
        Key::new(
            "linger",
            size(0, 1 << 30),
            Default(r#""1MiB""#),
            "What is still read of a client after its last answer, so that no reset overtakes that.",
        ),
        Key::new(
            "proxy_header",
            size(256, 64 << 10),
            Default(r#""4KiB""#),
            "A PROXY header; the connection is reset.",
        ),
        Key::new(
            "client_hello",
            size(1 << 10, 64 << 10),
            Default(r#""16KiB""#),
            "The first message of a TLS client, where routes or a hash_key go by its name; the connection is reset.",
        ),
        Key::new(
            "handshakes",
            number(1, 1_000_000),
            Default("1000"),
            "TLS handshakes at once, each from its hello on; further ones wait for a place, within the timeout tls_handshake.",
        ),
        Key::new(
            "backlog",
            number(1, 65_535),
            Default("4096"),
            "Connections that wait to be accepted, for each worker; the kernel cuts it to net.core.somaxconn.",
        ),
        Key::new(
            "udp_datagram",
            size(1, 65_535),
            Default(r#""65535B""#),
            "A datagram of a udp listener, either way; longer ones are dropped.",
        ),
        Key::new(
            "udp_answers",
            number(0, 1_000_000),
            Default("0"),
            "Datagrams of the endpoint after which a udp session ends (1 suits DNS); 0 is no limit.",
        ),
        Key::new(
            "bandwidth_in",
            Kind::Or("off", &Kind::Text(Form::Bandwidth)),
            Default(r#""off""#),
            "Bytes that one connection may bring in a second, such as \"1MiB/s\", or \"off\"; of a connection that has been quiet, those of \
             a quarter of a second at once. Not of udp listeners.",
        ),
        Key::new(
            "bandwidth_out",
            Kind::Or("off", &Kind::Text(Form::Bandwidth)),
            Default(r#""off""#),
            "Bytes that one connection may be sent in a second, likewise.",
        ),
        Key::new("http2", Kind::Table(&HTTP2_LIMITS), Default("{}"), "Connections of HTTP/2."),
    ],
);

static LISTENER_TLS: Section = Section::new(
    "TLS of a listener.",
    &[
        Key::new(
            "certificates",
            Kind::List { of: &Kind::Table(&CERTIFICATE), min: 1 },
            Required(r#"[{ cert = "app.crt", key = "app.key" }]"#),
            "Chosen by the name that a client asks for (SNI), exact before wildcard; of several for one name, such as ECDSA \
             and RSA, by what the client can verify. The first is for those who ask for no name, or another.",
        ),
        Key::new(
            "min_version",
            Kind::Choice(&[Word::new("1.2"), Word::new("1.3")]),
            Default(r#""1.2""#),
            "The least version of TLS.",
        ),
        Key::new(
            "alpn",
            Kind::List { of: &Kind::Text(Form::Some), min: 0 },
            Optional(r#"["h2", "http/1.1"]"#),
            "Protocols that are offered (ALPN), most wanted first; by default all that an http listener can speak, and none of \
             a tcp listener.",
        ),
        Key::new(
            "client_ca",
            Kind::Text(Form::Some),
            Optional(r#""clients.pem""#),
            "A PEM file of authorities: clients are asked for a certificate that one of them has signed.",
        ),
        Key::new(
            "client_auth",
            Kind::Choice(&[Word::new("require"), Word::new("request")]),
            Optional(r#""require""#),
            "Whether clients must have one: require (with client_ca the default), or request, which also takes those without.",
        ),
        Key::new(
            "client_headers",
            Kind::Bool,
            Default("false"),
            "Endpoints are told of the client's certificate: X-Client-Cert-Subject (as in RFC 4514) and X-Client-Cert-SHA256.",
        ),
        Key::new(
            "ticket_keys",
            Kind::Text(Form::Some),
            Optional(r#""tickets.key""#),
            "A file of keys for session tickets, one a line, each at least 32 bytes: the first makes tickets, all open them, so \
             nodes with the same file resume each other's sessions. Without one the process makes its own every 6 hours.",
        ),
    ],
);

static CERTIFICATE: Section = Section::new(
    "A certificate.",
    &[
        Key::new(
            "cert",
            Kind::Text(Form::Some),
            Required(r#""app.crt""#),
            "A PEM file: the certificate, then what leads to its authority.",
        ),
        Key::new("key", Kind::Text(Form::Some), Required(r#""app.key""#), "A PEM file with its private key."),
        Key::new(
            "ocsp",
            Kind::Text(Form::Some),
            Optional(r#""app.ocsp""#),
            "A file with an OCSP answer in DER, which is stapled until it runs out.",
        ),
        Key::new(
            "client_ca",
            Kind::Text(Form::Some),
            Optional(r#""clients.pem""#),
            "As above, for the names of this certificate; a request for one of them over a connection that was not asked for \
             the same gets 421.",
        ),
        Key::new(
            "client_auth",
            Kind::Choice(&[Word::new("require"), Word::new("request"), Word::new("none")]),
            Optional(r#""require""#),
            "As above, or none.",
        ),
    ],
);

static HTTP2_LIMITS: Section = Section::new(
    "What one connection of HTTP/2 may do. Who does more in any second than a rate allows is sent away (GOAWAY with \
     ENHANCE_YOUR_CALM).",
    &[
        Key::new("streams", number(1, 10_000), Default("100"), "Requests at once."),
        Key::new(
            "stream_window",
            size(65_535, 16 << 20),
            Default(r#""128KiB""#),
            "What a client may send of one request body before it has gone on (SETTINGS_INITIAL_WINDOW_SIZE).",
        ),
        Key::new(
            "connection_window",
            size(65_535, 64 << 20),
            Default(r#""1MiB""#),
            "Likewise, of all its request bodies together.",
        ),
        Key::new(
            "send_buffer",
            size(16 << 10, 16 << 20),
            Default(r#""128KiB""#),
            "What is held of all answers together for a client that does not read.",
        ),
        Key::new(
            "continuations",
            number(0, 1_000),
            Default("5"),
            "CONTINUATION frames of one head; h2 itself refuses more than the size of a head can need, at least 5.",
        ),
        Key::new(
            "resets",
            number(1, 1_000_000),
            Default("500"),
            "Requests that are cancelled before their answer, in any second (rapid reset).",
        ),
        Key::new(
            "faults",
            number(1, 1_000_000),
            Default("100"),
            "Streams that we reset for the client's mistakes, in any second; ten times as many in all (MadeYouReset).",
        ),
        Key::new("pings", number(1, 1_000_000), Default("100"), "PING frames in any second."),
        Key::new(
            "settings",
            number(1, 1_000_000),
            Default("50"),
            "SETTINGS frames in any second; one for every 8 entries.",
        ),
        Key::new(
            "priorities",
            number(1, 1_000_000),
            Default("1000"),
            "PRIORITY frames, and frames of unknown types, in any second.",
        ),
        Key::new(
            "window_updates",
            number(1, 1_000_000),
            Default("1000"),
            "WINDOW_UPDATE frames of less than 256 bytes in any second.",
        ),
        Key::new(
            "empty_frames",
            number(1, 1_000_000),
            Default("100"),
            "DATA frames in any second that are empty without being the last, or are more padding than data.",
        ),
    ],
);

static LISTENER_TIMEOUTS: Section = Section::new(
    "Times of connections from clients.",
    &[
        Key::new(
            "request_header",
            TIMEOUT,
            Default(r#""10s""#),
            "A whole request head, from its first byte.",
        ),
        Key::new("keep_alive", TIMEOUT, Default(r#""60s""#), "Idle between requests."),
        Key::new("client_idle", TIMEOUT, Default(r#""60s""#), "No progress while a body moves."),
        Key::new(
            "tcp_keepalive",
            TIMEOUT,
            Default(r#""30s""#),
            "First keepalive probe of an idle connection.",
        ),
        Key::new("tcp_user_timeout", TIMEOUT, Default(r#""60s""#), "Unacknowledged data to a client."),
        Key::new(
            "linger",
            TIMEOUT,
            Default(r#""2s""#),
            "How long is read of a client after its last answer; see limits.",
        ),
        Key::new(
            "tls_handshake",
            TIMEOUT,
            Default(r#""5s""#),
            "A PROXY header, a ClientHello that is looked into and a whole TLS handshake, from the accepted connection on; waiting \
             for a place among the handshakes counts.",
        ),
        Key::new(
            "udp_idle",
            TIMEOUT,
            Default(r#""30s""#),
            "A session of a udp listener without a datagram either way.",
        ),
    ],
);
