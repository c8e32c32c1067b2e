//! Gateway API.

use super::super::document::Document;
use super::super::report::Report;
use super::draft::Names;
use super::object::Cluster;
use super::pool::Pools;

/// Whether there is any of it.
pub(super) fn is_there(cluster: &Cluster<'_>) -> bool {
    cluster.of("Gateway").next().is_some()
}

/// Kinds of Gateway API.
const KINDS: [&str; 7] =
    ["Gateway", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "BackendTLSPolicy"];

pub(super) fn write(
    cluster: &Cluster<'_>,
    _pools: &mut Pools<'_, '_>,
    _names: &mut Names,
    _document: &mut Document,
    report: &mut Report,
) {
    for object in cluster.objects.iter().filter(|object| KINDS.contains(&object.kind)) {
        report.not_possible(object.at, "it is not carried over yet: write it by hand");
    }
}
