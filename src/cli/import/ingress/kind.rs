//! Kinds whose fields are not read: why nothing has to stand for them, or what to do.

use super::super::report::{Report, Verdict};
use super::super::tree::Node;
use super::object::Object;

/// What becomes of a kind.
enum Fate {
    Idle(&'static str),
    Not(&'static str),
}

use Fate::{Idle, Not};

const WORKLOAD: &str = "it is what runs in the cluster, and Services lead to it";
const RIGHTS: &str = "it is about who may ask the cluster's API";

/// Kinds by their names.
const KINDS: &[(&str, Fate)] = &[
    ("Deployment", Idle(WORKLOAD)),
    ("StatefulSet", Idle(WORKLOAD)),
    ("DaemonSet", Idle(WORKLOAD)),
    ("ReplicaSet", Idle(WORKLOAD)),
    ("Pod", Idle(WORKLOAD)),
    ("Job", Idle(WORKLOAD)),
    ("CronJob", Idle(WORKLOAD)),
    ("HorizontalPodAutoscaler", Idle(WORKLOAD)),
    ("PersistentVolumeClaim", Idle(WORKLOAD)),
    ("PersistentVolume", Idle(WORKLOAD)),
    ("ServiceAccount", Idle(RIGHTS)),
    ("Role", Idle(RIGHTS)),
    ("RoleBinding", Idle(RIGHTS)),
    ("ClusterRole", Idle(RIGHTS)),
    ("ClusterRoleBinding", Idle(RIGHTS)),
    ("NetworkPolicy", Idle("it is about who may connect to pods: let this node do so")),
    ("ValidatingWebhookConfiguration", Idle("it is about what the cluster's API takes")),
    ("MutatingWebhookConfiguration", Idle("it is about what the cluster's API takes")),
    ("CustomResourceDefinition", Idle("it is about what the cluster's API takes")),
    ("ResourceQuota", Idle("it is about what a namespace may use")),
    ("LimitRange", Idle("it is about what a namespace may use")),
    ("Certificate", Idle("certificates are files here: cert-manager's can be written there")),
    ("Issuer", Idle("certificates are files here: cert-manager's can be written there")),
    ("ClusterIssuer", Idle("certificates are files here: cert-manager's can be written there")),
    ("ServiceMonitor", Idle("/metrics is there for Prometheus")),
    ("PodMonitor", Idle("/metrics is there for Prometheus")),
    ("PrometheusRule", Idle("/metrics is there for Prometheus")),
    (
        "PodDisruptionBudget",
        Idle(
            "it bounds what is evicted on purpose: min_available of a pool bounds what is drained or ejected here",
        ),
    ),
    ("ApplicationSet", Idle("it says how the cluster gets its objects, not what becomes of requests")),
    ("Application", Idle("it says how the cluster gets its objects, not what becomes of requests")),
    (
        "Kustomization",
        Idle("it says how the cluster gets its objects: give what it makes (kubectl kustomize)"),
    ),
    ("HelmRelease", Idle("it says how the cluster gets its objects: give what it makes (helm template)")),
    ("DNSEndpoint", Idle("names in DNS are made by external-dns: let them lead here")),
    ("VirtualServer", Not("it is NGINX Inc.'s: write its routes by hand")),
    ("VirtualServerRoute", Not("it is NGINX Inc.'s: write its routes by hand")),
    ("TransportServer", Not("it is NGINX Inc.'s: write its listener by hand")),
    (
        "IngressRoute",
        Not("it is Traefik's: write its routes by hand, as `plimsoll import traefik` does it for files"),
    ),
    ("IngressRouteTCP", Not("it is Traefik's: write its routes by hand")),
    ("IngressRouteUDP", Not("it is Traefik's: write its listener by hand")),
    ("Middleware", Not("it is Traefik's: write what it does in the routes")),
    ("VirtualService", Not("it is Istio's: write its routes by hand")),
    ("DestinationRule", Not("it is Istio's: write what it does in the pools")),
    ("HTTPProxy", Not("it is Contour's: write its routes by hand")),
    ("BackendTrafficPolicy", Not("it is an implementation's own: write what it does in the pools")),
    ("ClientTrafficPolicy", Not("it is an implementation's own: write what it does in the listeners")),
    (
        "SecurityPolicy",
        Not(
            "it is an implementation's own: write who may come in the routes. Until then the routes that it guards let everybody in",
        ),
    ),
    ("XBackendTrafficPolicy", Not("it is experimental: write what it does in the pools")),
    ("ListenerSet", Not("write its listeners as [listener.NAME]")),
    ("XListenerSet", Not("write its listeners as [listener.NAME]")),
];

/// Groups of Kubernetes' own, and of Gateway API, in which there is no kind but those that are known.
const GROUPS: &[&str] = &["networking.k8s.io", "gateway.networking.k8s.io", "discovery.k8s.io", "extensions"];

/// Says of all lines of an object what becomes of them.
pub(super) fn tell(object: &Object<'_>, report: &mut Report) {
    let known = KINDS.iter().find(|(kind, _)| *kind == object.kind).map(|(_, fate)| fate);
    let (verdict, text) = match known {
        Some(Idle(why)) => (Verdict::Ignored, *why),
        Some(Not(remedy)) => (Verdict::NotPossible, *remedy),
        None if GROUPS.contains(&object.group) => {
            (Verdict::WrongInSource, "Kubernetes has no such kind there")
        }
        None => (
            Verdict::NotPossible,
            "the importer does not know this kind: if it says what becomes of requests, write that",
        ),
    };
    let at = object.node.entry("kind").map_or(object.at, |(key, _)| key.at);
    report.note(at, verdict, text);
    super::field::rest(object.node, at, report);
    if object.kind == "DNSEndpoint" {
        failover(object, report);
    }
}

/// Route 53 fails over between a primary and a secondary set of records.
fn failover(object: &Object<'_>, report: &mut Report) {
    let endpoints = object.spec(&["endpoints"]).map_or(&[][..], Node::items);
    let kinds: Vec<&Node> = endpoints
        .iter()
        .flat_map(|endpoint| endpoint.get("providerSpecific").map_or(&[][..], Node::items))
        .filter(|pair| pair.get("name").and_then(Node::text) == Some("aws/failover"))
        .filter_map(|pair| pair.get("value"))
        .collect();
    let has = |word: &str| kinds.iter().any(|kind| kind.text() == Some(word));
    for kind in kinds.iter().filter(|_| has("PRIMARY") != has("SECONDARY")) {
        report.wrong(kind.at, "Route 53 fails over from a PRIMARY to a SECONDARY set of records, and there is one of them alone: all addresses of one set are answered together");
    }
}
