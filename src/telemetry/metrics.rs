//! The one table of every metric, and [`Sink`]: how whoever counts tells whoever shows.
//!
//! The counters themselves live where they are counted; `control` walks them when somebody asks and feeds a sink:
//! [`super::prometheus`] for the page, [`super::recorder`] for programs that embed the proxy.
//!
//! Label values are names from the configuration or words from closed lists, never anything that a peer chose: the number of
//! series is bounded by the configuration.

/// One metric: its name, labels and meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name as Prometheus shows it; counters end in `_total`, other names in their unit where they have one.
    pub name: &'static str,
    /// What it says, for people.
    pub help: &'static str,
    /// What may be done with it.
    pub kind: Kind,
    /// Names of its labels, in the order in which a sink is given them.
    pub labels: &'static [&'static str],
}

/// What may be done with a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl Kind {
    /// The word of the Prometheus text format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Takes metrics, in any order; one call is one series.
pub trait Sink {
    /// A whole number since the start of the process.
    fn counter(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: u64);

    /// A value as it is now. Also for the few counters that are no whole numbers (seconds of CPU).
    fn gauge(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: f64);

    /// Observations since the start of the process: `counts` has one number for each of `bounds_seconds` (those above the
    /// bound before and up to this one) and a last one for what lies above all.
    fn histogram(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        bounds_seconds: &[f64],
        counts: &[u64],
        sum_seconds: f64,
    );
}

/// Whether `labels` are those of the table, in its order: what every sink asserts in test builds.
#[must_use]
pub fn labels_fit(metric: &Metric, labels: &[(&str, &str)]) -> bool {
    labels.iter().map(|(name, _)| *name).eq(metric.labels.iter().copied())
}

macro_rules! table {
    ($($item:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = $help]
            pub static $item: Metric =
                Metric { name: $name, help: $help, kind: Kind::$kind, labels: &[$($label),*] };
        )+

        /// Every metric, in the order in which pages show them.
        pub static ALL: &[&Metric] = &[$(&$item),+];
    };
}

table! {
    BUILD_INFO = Gauge "plimsoll_build_info" ["version"] "Always 1; the label says which build runs.";
    CONFIG_INFO = Gauge "plimsoll_config_info" ["hash"] "Always 1; the label is the hash of the configuration that runs.";
    CONFIG_HASH = Gauge "plimsoll_config_hash" []
        "The hash of the configuration that runs, its upper 48 bits as a number: nodes with the same files have the same.";
    CONFIG_GENERATION = Gauge "plimsoll_config_generation" [] "Snapshots published since the start.";
    CONFIG_SUCCESSFUL = Gauge "plimsoll_config_last_reload_successful" []
        "1 unless the last reload was refused.";
    CONFIG_SUCCESS_TIME = Gauge "plimsoll_config_last_reload_success_timestamp_seconds" []
        "When what runs was published, since 1970.";
    CONFIG_AGE = Gauge "plimsoll_config_age_seconds" [] "How long ago what runs was published.";
    CONFIG_FALLBACK = Gauge "plimsoll_config_fallback" []
        "1 while the last good configuration serves because the file could not be used at the start.";
    CONFIG_ON_TRIAL = Gauge "plimsoll_config_on_trial" [] "1 while a reload waits to be confirmed.";
    RELOADS = Counter "plimsoll_reloads_total" ["result"] "Reloads by result: ok or failed.";
    OVERLOAD_STAGE = Gauge "plimsoll_overload_stage" []
        "What is given up because something runs short: 0 nothing, 1 idle connections, 2 new work of sheddable listeners, 3 that \
         of all but critical ones.";
    OVERLOAD_MEMORY = Gauge "plimsoll_overload_memory_ratio" [] "The share of the memory that the process may have that it uses.";
    OVERLOAD_DESCRIPTORS = Gauge "plimsoll_overload_descriptors_ratio" []
        "The share of the descriptors that the process may have that it uses.";
    WORKER_LAG = Gauge "plimsoll_worker_lag_seconds" [] "How late the latest timer of any worker was, last looked at.";
    DRAINING = Gauge "plimsoll_draining" [] "1 while the process drains before it stops.";

    LISTENER_ACCEPTED = Counter "plimsoll_listener_accepted_total" ["listener"] "Connections accepted.";
    LISTENER_CONNECTIONS = Gauge "plimsoll_listener_connections" ["listener"] "Connections open now.";
    LISTENER_REFUSED = Counter "plimsoll_listener_refused_total" ["listener", "reason"]
        "Connections closed before anything was done with them, by reason: denied, per_source, proxy_header (none, or a \
         malformed one), client_hello (malformed) or unknown_name (no pool for the SNI).";
    LISTENER_PAUSED = Counter "plimsoll_listener_paused_total" ["listener"]
        "Times that accepting paused because max_connections was reached.";
    LISTENER_ACCEPT_ERRORS = Counter "plimsoll_listener_accept_errors_total" ["listener"] "Failed accepts.";
    LISTENER_REQUESTS = Counter "plimsoll_listener_requests_total" ["listener", "class"]
        "Requests (tcp: connections) that ended, by class of the status sent: 1xx to 5xx, or none.";
    LISTENER_BYTES_IN = Counter "plimsoll_listener_bytes_in_total" ["listener"] "Body bytes from clients.";
    LISTENER_BYTES_OUT = Counter "plimsoll_listener_bytes_out_total" ["listener"] "Body bytes to clients.";
    LISTENER_DATAGRAMS = Counter "plimsoll_listener_datagrams_total" ["listener", "direction"]
        "Datagrams of a udp listener: in from clients, out to them.";
    LISTENER_DATAGRAMS_DROPPED = Counter "plimsoll_listener_datagrams_dropped_total" ["listener", "reason"]
        "Datagrams that went nowhere: denied, per_source, max_connections, udp_datagram, waiting, draining, unsent or refused.";
    LISTENER_EVICTED = Counter "plimsoll_listener_sessions_evicted_total" ["listener"]
        "Quiet udp sessions that gave way to newcomers at max_connections.";
    LISTENER_TLS_HANDSHAKES = Counter "plimsoll_listener_tls_handshakes_total" ["listener", "result"]
        "TLS handshakes done: full, or resumed from an earlier session.";
    LISTENER_TLS_FAILURES = Counter "plimsoll_listener_tls_handshake_failures_total" ["listener", "kind"]
        "TLS handshakes that failed: timeout, closed, malformed, incompatible, alpn, client_certificate, alert or internal.";
    LISTENER_TLS_NOW = Gauge "plimsoll_listener_tls_handshakes" ["listener"] "TLS handshakes under way.";
    LISTENER_TLS_MISDIRECTED = Counter "plimsoll_listener_tls_misdirected_total" ["listener"]
        "Requests for a name whose certificate asks clients for another one than their connection was asked for (421).";
    LISTENER_TLS_EXPIRY = Gauge "plimsoll_listener_tls_certificate_expiry_timestamp_seconds" ["listener", "certificate"]
        "When a certificate expires, since 1970; the label is its file.";
    TERMINATIONS = Counter "plimsoll_terminations_total" ["end"]
        "Requests and tcp connections that ended, by the reason that the access log shows.";

    ROUTE_LOGINS = Counter "plimsoll_route_logins_total" ["route", "result"]
        "Requests of a route with basic_auth: right, absent (401), wrong (401) or busy (503, at max_checks).";
    ROUTE_LOGINS_REMEMBERED = Gauge "plimsoll_route_logins_remembered" ["route"]
        "Logins that were right and are not checked again for a while.";
    ROUTE_ASKED = Counter "plimsoll_route_forward_auth_total" ["route", "result"]
        "Requests of a route with forward_auth: passed, refused, or failed, which on_error decides.";
    ROUTE_COPIES = Counter "plimsoll_route_mirrored_total" ["route", "result"]
        "Copies of requests for the mirror: answered, failed, or left out as dropped (max_in_flight, a reload) or too_large.";
    ROUTE_COPIES_NOW = Gauge "plimsoll_route_mirrored_in_flight" ["route"] "Copies of requests under way.";
    ROUTE_BUFFERED = Counter "plimsoll_route_buffered_requests_total" ["route", "result"]
        "Request bodies that were taken in before an endpoint was picked: whole, or exceeded, whose rest was streamed.";
    ROUTE_COMPRESSED = Counter "plimsoll_route_compressed_total" ["route"] "Answers that were compressed.";
    ROUTE_COMPRESSED_IN = Counter "plimsoll_route_compressed_bytes_in_total" ["route"]
        "Body bytes of compressed answers as they came.";
    ROUTE_COMPRESSED_OUT = Counter "plimsoll_route_compressed_bytes_out_total" ["route"]
        "Body bytes of compressed answers as they went to clients.";

    POOL_REQUESTS = Counter "plimsoll_pool_requests_total" ["pool", "class"]
        "Requests (tcp: connections) that ended, by class of the status sent: 1xx to 5xx, or none.";
    POOL_REQUEST_DURATION = Histogram "plimsoll_pool_request_duration_seconds" ["pool"]
        "Time from the first byte of a request to the last of its response.";
    POOL_RETRIES = Counter "plimsoll_pool_retries_total" ["pool"] "Attempts after the first one of a request.";
    POOL_QUEUE_LENGTH = Gauge "plimsoll_pool_queue_length" ["pool"] "Requests waiting for an endpoint.";
    POOL_QUEUE_WAITING = Gauge "plimsoll_pool_queue_waiting" ["pool", "class"] "Requests waiting for an endpoint, by priority_class.";
    POOL_QUEUE_STANDS = Gauge "plimsoll_pool_queue_stands" ["pool", "class"]
        "1 while requests of the class are shed because they have waited for longer than queue_target all through an interval.";
    POOL_QUEUE_SHED = Counter "plimsoll_pool_queue_shed_total" ["pool"] "Requests that were shed because the queue stood.";
    ENDPOINT_CEILING = Gauge "plimsoll_endpoint_ceiling" ["pool", "endpoint"]
        "Requests in flight that it may have now, where that moves with the load of the pool.";
    POOL_QUEUE_TIMEOUTS = Counter "plimsoll_pool_queue_timeouts_total" ["pool"] "Requests that waited for queue_timeout.";
    POOL_QUEUE_FULL = Counter "plimsoll_pool_queue_full_total" ["pool"] "Requests that found the queue full.";
    POOL_NOTHING_USABLE = Counter "plimsoll_pool_nothing_usable_total" ["pool"] "Requests that found no usable endpoint.";
    POOL_RETRIES_REFUSED = Counter "plimsoll_pool_retries_refused_total" ["pool"]
        "Attempts after the first one that the retry budget did not allow.";
    POOL_HEDGES = Counter "plimsoll_pool_hedges_total" ["pool"] "Second attempts beside one that was slow.";
    POOL_HEDGES_WON = Counter "plimsoll_pool_hedges_won_total" ["pool"]
        "Second attempts beside a slow one whose answer came first.";
    POOL_HEDGES_REFUSED = Counter "plimsoll_pool_hedges_refused_total" ["pool"]
        "Second attempts beside a slow one that the retry budget did not allow.";
    POOL_FAILED_OVER = Counter "plimsoll_pool_failed_over_total" ["pool"]
        "Attempts on an endpoint of another pool, because this one had nothing usable.";
    POOL_FAILED_OPEN = Counter "plimsoll_pool_failed_open_total" ["pool"]
        "Attempts for which probe state and ejections were overlooked, because nothing was usable.";
    POOL_BREAKER = Gauge "plimsoll_pool_breaker" ["pool"]
        "The breaker before the whole pool, where there is one: 0 closed, 1 half-open, 2 open.";
    POOL_BREAKER_OPENED = Counter "plimsoll_pool_breaker_opened_total" ["pool"]
        "Times that the breaker before the whole pool opened.";
    POOL_TLS_FAILURES = Counter "plimsoll_pool_tls_failures_total" ["pool", "reason"]
        "Failed TLS handshakes with endpoints by reason: expired, not_yet_valid, wrong_name, unknown_authority, bad_certificate, refused (an alert), timeout, closed or protocol.";
    POOL_USABLE = Gauge "plimsoll_pool_usable_endpoints" ["pool"] "Endpoints that may be picked now.";

    POOL_STICKY = Counter "plimsoll_pool_sticky_total" ["pool", "result"]
        "Answers of a sticky pool by what became of the client: new, kept, moved or void (what it carried was forged, over, or of an endpoint that is gone).";
    POOL_STICKY_COOKIES = Counter "plimsoll_pool_sticky_cookies_total" ["pool"] "Sticky cookies handed out.";
    POOL_STICKY_ENTRIES = Gauge "plimsoll_pool_sticky_entries" ["pool"] "Clients in the sticky table.";

    POOL_CALLS = Counter "plimsoll_pool_grpc_calls_total" ["pool", "status"]
        "gRPC calls that ended, by their grpc-status; those that nobody made are left out.";

    ENDPOINT_USABLE = Gauge "plimsoll_endpoint_usable" ["pool", "endpoint"] "1 when the endpoint may be picked now.";
    ENDPOINT_EJECTED = Gauge "plimsoll_endpoint_ejected" ["pool", "endpoint"]
        "1 while live traffic keeps the endpoint ejected.";
    ENDPOINT_EJECTIONS = Counter "plimsoll_endpoint_ejections_total" ["pool", "endpoint"]
        "Times that live traffic ejected the endpoint.";
    ENDPOINT_BREAKER = Gauge "plimsoll_endpoint_breaker" ["pool", "endpoint"]
        "The endpoint's breaker, where it has one: 0 closed, 1 half-open, 2 open.";
    ENDPOINT_BREAKER_OPENED = Counter "plimsoll_endpoint_breaker_opened_total" ["pool", "endpoint"]
        "Times that the endpoint's breaker opened.";
    ENDPOINT_WEIGHT = Gauge "plimsoll_endpoint_weight" ["pool", "endpoint"] "Weight in force.";
    ENDPOINT_REQUESTS = Counter "plimsoll_endpoint_requests_total" ["pool", "endpoint"]
        "Attempts (tcp: sessions) on the endpoint.";
    ENDPOINT_FAILURES = Counter "plimsoll_endpoint_failures_total" ["pool", "endpoint", "kind"]
        "Failed attempts by kind: connect, reset, timeout or answer (a listed status, or no HTTP at all).";
    ENDPOINT_IN_FLIGHT = Gauge "plimsoll_endpoint_in_flight" ["pool", "endpoint"] "Attempts (tcp: sessions) under way.";
    ENDPOINT_IDLE = Gauge "plimsoll_endpoint_idle_connections" ["pool", "endpoint"] "Open connections that wait for use.";
    ENDPOINT_CONNECTS = Counter "plimsoll_endpoint_connects_total" ["pool", "endpoint"] "Connections made.";
    ENDPOINT_REUSED = Counter "plimsoll_endpoint_reused_total" ["pool", "endpoint"] "Attempts on a connection used before.";
    ENDPOINT_STALE = Counter "plimsoll_endpoint_stale_total" ["pool", "endpoint"]
        "Idle connections found closed when they were wanted, and repeats because of one.";
    ENDPOINT_HTTP2 = Gauge "plimsoll_endpoint_http2_connections" ["pool", "endpoint"]
        "Open HTTP/2 connections, busy or not; a request on one is a stream.";
    ENDPOINT_GOAWAYS = Counter "plimsoll_endpoint_http2_goaways_total" ["pool", "endpoint"]
        "HTTP/2 connections on which the endpoint announced that it takes no more requests.";
    ENDPOINT_GIVEN_BACK = Counter "plimsoll_endpoint_http2_given_back_total" ["pool", "endpoint"]
        "Requests that the endpoint gave back unprocessed: refused, or not reached when it left.";
    ENDPOINT_SILENT = Counter "plimsoll_endpoint_http2_silent_total" ["pool", "endpoint"]
        "HTTP/2 connections closed because a PING was not answered in time.";
    ENDPOINT_BYTES_IN = Counter "plimsoll_endpoint_bytes_in_total" ["pool", "endpoint"] "Body bytes from the endpoint.";
    ENDPOINT_BYTES_OUT = Counter "plimsoll_endpoint_bytes_out_total" ["pool", "endpoint"] "Body bytes to the endpoint.";

    DNS_ADDRESSES = Gauge "plimsoll_dns_addresses" ["name"] "Addresses of a name that are in use.";
    DNS_ANSWER_AGE = Gauge "plimsoll_dns_answer_age_seconds" ["name"]
        "How long ago a name was last answered with an address; the last good answer stays in use.";
    DNS_LOOKUPS = Counter "plimsoll_dns_lookups_total" ["name"] "Times that a name was asked.";
    DNS_FAILURES = Counter "plimsoll_dns_failures_total" ["name"] "Times that a name was asked and no address was learned.";
    DNS_LEFT_OUT = Counter "plimsoll_dns_addresses_left_out_total" ["name"]
        "Addresses left out of answers because there were more than 1,000.";

    RATE_LIMIT_REQUESTS = Counter "plimsoll_rate_limit_requests_total" ["limit", "result"]
        "Requests under a rate limit by result: passed, delayed, rejected, dropped, tarpitted, counted (it only counts, and would \
         have stopped them) or unkeyed (nothing to tell them apart by).";
    RATE_LIMIT_KEYS = Gauge "plimsoll_rate_limit_keys" ["limit"]
        "Keys that a rate limit remembers, also those that have their whole burst again.";
    RATE_LIMIT_EVICTED = Counter "plimsoll_rate_limit_evicted_total" ["limit"]
        "Keys that a rate limit forgot before they had their whole burst again: its size is too small.";
    RATE_LIMIT_HELD = Gauge "plimsoll_rate_limit_held" ["limit"] "Requests that a tarpit holds.";
    CONCURRENCY_LIMIT_REQUESTS = Counter "plimsoll_concurrency_limit_requests_total" ["limit", "result"]
        "Requests under a concurrency limit by result: passed, rejected or unkeyed (nothing to tell them apart by).";
    CONCURRENCY_LIMIT_KEYS = Gauge "plimsoll_concurrency_limit_keys" ["limit"]
        "Keys that have a request under way.";

    LIMIT_HITS = Counter "plimsoll_limit_hits_total" ["limit"] "Times that a limit was reached, by its name.";
    WORKER_CONNECTIONS = Gauge "plimsoll_worker_connections" ["worker"] "Client connections that a worker owns.";
    WORKER_HANDOVERS = Counter "plimsoll_worker_handovers_total" ["worker"]
        "Connections that a worker accepted and gave to a less loaded one.";
    PANICS = Counter "plimsoll_panics_total" [] "Panics, each of which ended one connection.";
    EVENTS_DROPPED = Counter "plimsoll_events_dropped_total" [] "Events that workers had for control and found its queue full.";
    EVENTS = Counter "plimsoll_events_total" ["kind"] "Changes of state, by what they are about.";
    NOTIFICATIONS = Counter "plimsoll_notifications_total" ["sink", "result"]
        "Events for a sink of `[[notify]]`, by result: sent, failed or dropped.";
    SPANS = Counter "plimsoll_spans_total" ["result"]
        "Requests whose spans were to be exported, by result: exported, failed (not taken) or dropped (too many waited).";
    ACCESS_LOG_DROPPED = Counter "plimsoll_access_log_dropped_total" []
        "Access-log records lost because the log could not be written as fast, or at all.";
    ACCESS_LOG_ERRORS = Counter "plimsoll_access_log_errors_total" [] "Failed writes of the access log.";
    LOG_DROPPED = Counter "plimsoll_log_dropped_total" [] "Log lines lost because standard error could not be written as fast.";

    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" [] "Resident memory.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "User and system CPU time.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [] "Open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" [] "Most file descriptors that may be open.";
    PROCESS_START = Gauge "process_start_time_seconds" [] "Start of the process since 1970.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus_and_ours() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name stands twice");
        for metric in ALL {
            let Metric { name, help, kind, labels } = metric;
            assert!(name.starts_with("plimsoll_") || name.starts_with("process_"), "{name}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.'), "{name}");
            assert!(labels.iter().all(|label| label.bytes().all(|b| b.is_ascii_lowercase())), "{name}");
        }
    }
}
