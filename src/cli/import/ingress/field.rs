//! The fields of the kinds that are read, as data: what becomes of a line unless something more is said of it.

use std::borrow::Cow;

use super::super::report::{Place, Report};
use super::super::tree::{Content, Node};
use super::object::Object;

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It is read.
    Read,
    /// Nothing has to stand for it.
    Idle(&'static str),
    /// Nothing can stand for it.
    Not(&'static str),
    /// The field is looked at one by one elsewhere.
    Else,
}

use Fate::{Else, Idle, Not, Read};

/// A path of names, `*` for any name; `**` at its end is everything below.
type Fields = &'static [(&'static str, Fate)];

const OF_CLUSTER: &str = "it matters to the cluster, not to requests";
const STATE: &str = "it is what the cluster has found, not what is asked of it";
const LABELS: &str = "labels decide nothing here";

/// Fields of every object.
const COMMON: Fields = &[
    ("apiVersion", Read),
    ("kind", Read),
    ("metadata.name", Read),
    ("metadata.namespace", Read),
    ("metadata.creationTimestamp", Read),
    ("metadata.annotations.**", Else),
    ("metadata.labels.*", Idle(LABELS)),
    ("metadata.generateName", Idle(OF_CLUSTER)),
    ("metadata.uid", Idle(OF_CLUSTER)),
    ("metadata.resourceVersion", Idle(OF_CLUSTER)),
    ("metadata.generation", Idle(OF_CLUSTER)),
    ("metadata.selfLink", Idle(OF_CLUSTER)),
    ("metadata.deletionTimestamp", Idle(OF_CLUSTER)),
    ("metadata.deletionGracePeriodSeconds", Idle(OF_CLUSTER)),
    ("metadata.ownerReferences.**", Idle(OF_CLUSTER)),
    ("metadata.finalizers.**", Idle(OF_CLUSTER)),
    ("metadata.managedFields.**", Idle(OF_CLUSTER)),
    ("metadata.clusterName", Idle(OF_CLUSTER)),
    ("status.**", Idle(STATE)),
];

const INGRESS: Fields = &[
    ("spec.ingressClassName", Read),
    ("spec.tls.hosts", Read),
    ("spec.tls.secretName", Read),
    ("spec.defaultBackend.service.name", Read),
    ("spec.defaultBackend.service.port.number", Read),
    ("spec.defaultBackend.service.port.name", Read),
    ("spec.defaultBackend.resource.apiGroup", Read),
    ("spec.defaultBackend.resource.kind", Read),
    ("spec.defaultBackend.resource.name", Read),
    ("spec.rules.host", Read),
    ("spec.rules.http.paths.path", Read),
    ("spec.rules.http.paths.pathType", Read),
    ("spec.rules.http.paths.backend.service.name", Read),
    ("spec.rules.http.paths.backend.service.port.number", Read),
    ("spec.rules.http.paths.backend.service.port.name", Read),
    ("spec.rules.http.paths.backend.resource.apiGroup", Read),
    ("spec.rules.http.paths.backend.resource.kind", Read),
    ("spec.rules.http.paths.backend.resource.name", Read),
];

const INGRESS_CLASS: Fields = &[
    ("spec.controller", Read),
    ("spec.parameters.**", Idle("ingress-nginx reads no parameters of a class")),
];

const SERVICE: Fields = &[
    ("spec.ports.name", Read),
    ("spec.ports.port", Read),
    ("spec.ports.targetPort", Read),
    ("spec.ports.protocol", Read),
    ("spec.ports.nodePort", Idle("endpoints are reached by themselves, not by nodes")),
    ("spec.ports.appProtocol", Read),
    ("spec.clusterIP", Read),
    ("spec.clusterIPs", Read),
    ("spec.externalName", Read),
    ("spec.type", Read),
    (
        "spec.selector.**",
        Idle("which pods these are is asked of the cluster's DNS, or stands in EndpointSlices"),
    ),
    (
        "spec.sessionAffinity",
        Idle(
            "it is of the cluster's own balancing, which requests do not go through where endpoints are known",
        ),
    ),
    ("spec.sessionAffinityConfig.**", Idle(OF_CLUSTER)),
    ("spec.externalIPs", Idle(OF_CLUSTER)),
    ("spec.externalTrafficPolicy", Idle(OF_CLUSTER)),
    ("spec.internalTrafficPolicy", Idle(OF_CLUSTER)),
    ("spec.healthCheckNodePort", Idle(OF_CLUSTER)),
    ("spec.ipFamilies", Idle(OF_CLUSTER)),
    ("spec.ipFamilyPolicy", Idle(OF_CLUSTER)),
    ("spec.loadBalancerIP", Idle(OF_CLUSTER)),
    ("spec.loadBalancerClass", Idle(OF_CLUSTER)),
    ("spec.loadBalancerSourceRanges", Idle("it is of the cloud's balancer in front")),
    ("spec.allocateLoadBalancerNodePorts", Idle(OF_CLUSTER)),
    ("spec.publishNotReadyAddresses", Idle(OF_CLUSTER)),
    (
        "spec.trafficDistribution",
        Idle("zones are preferred where [process] zone says where this node stands"),
    ),
    ("spec.topologyKeys", Idle(OF_CLUSTER)),
];

const SLICE: Fields = &[
    ("metadata.labels.kubernetes.io/service-name", Read),
    ("addressType", Read),
    ("ports.name", Read),
    ("ports.port", Read),
    ("ports.protocol", Read),
    ("ports.appProtocol", Idle(OF_CLUSTER)),
    ("endpoints.addresses", Read),
    ("endpoints.conditions.ready", Read),
    ("endpoints.conditions.serving", Read),
    ("endpoints.conditions.terminating", Read),
    ("endpoints.zone", Read),
    ("endpoints.nodeName", Idle(OF_CLUSTER)),
    ("endpoints.hostname", Idle(OF_CLUSTER)),
    ("endpoints.targetRef.**", Idle(OF_CLUSTER)),
    ("endpoints.hints.**", Idle("zones are preferred where [process] zone says where this node stands")),
    ("endpoints.deprecatedTopology.**", Idle(OF_CLUSTER)),
];

const ENDPOINTS: Fields = &[
    ("subsets.addresses.ip", Read),
    ("subsets.addresses.hostname", Idle(OF_CLUSTER)),
    ("subsets.addresses.nodeName", Idle(OF_CLUSTER)),
    ("subsets.addresses.targetRef.**", Idle(OF_CLUSTER)),
    ("subsets.notReadyAddresses.**", Idle("what is not ready gets nothing, there as here")),
    ("subsets.ports.name", Read),
    ("subsets.ports.port", Read),
    ("subsets.ports.protocol", Read),
    ("subsets.ports.appProtocol", Idle(OF_CLUSTER)),
];

const SECRET: Fields =
    &[("type", Read), ("immutable", Idle(OF_CLUSTER)), ("data.*", Else), ("stringData.*", Else)];

const CONFIG_MAP: Fields = &[
    ("immutable", Idle(OF_CLUSTER)),
    ("data.**", Else),
    ("binaryData.**", Idle("the controller reads texts")),
];

const GATEWAY: Fields = &[
    ("spec.gatewayClassName", Read),
    ("spec.addresses.type", Read),
    ("spec.addresses.value", Read),
    ("spec.listeners.name", Read),
    ("spec.listeners.port", Read),
    ("spec.listeners.protocol", Read),
    ("spec.listeners.hostname", Read),
    ("spec.listeners.tls.mode", Read),
    ("spec.listeners.tls.certificateRefs.group", Read),
    ("spec.listeners.tls.certificateRefs.kind", Read),
    ("spec.listeners.tls.certificateRefs.name", Read),
    ("spec.listeners.tls.certificateRefs.namespace", Read),
    (
        "spec.listeners.tls.options.**",
        Not("options of a listener's TLS are an implementation's own: see `tls` of the listener"),
    ),
    ("spec.listeners.tls.frontendValidation.caCertificateRefs.group", Read),
    ("spec.listeners.tls.frontendValidation.caCertificateRefs.kind", Read),
    ("spec.listeners.tls.frontendValidation.caCertificateRefs.name", Read),
    ("spec.listeners.tls.frontendValidation.caCertificateRefs.namespace", Read),
    ("spec.listeners.allowedRoutes.namespaces.from", Read),
    ("spec.listeners.allowedRoutes.namespaces.selector.**", Read),
    ("spec.listeners.allowedRoutes.kinds.group", Read),
    ("spec.listeners.allowedRoutes.kinds.kind", Read),
    ("spec.infrastructure.**", Idle("it is about the pods of a gateway")),
    ("spec.backendTLS.**", Not("our certificate for backends: `cert` and `key` in tls of the pools")),
    ("spec.tls.backend.**", Not("our certificate for backends: `cert` and `key` in tls of the pools")),
    ("spec.tls.frontend.default.validation.mode", Read),
    ("spec.tls.frontend.default.validation.caCertificateRefs.group", Read),
    ("spec.tls.frontend.default.validation.caCertificateRefs.kind", Read),
    ("spec.tls.frontend.default.validation.caCertificateRefs.name", Read),
    ("spec.tls.frontend.default.validation.caCertificateRefs.namespace", Read),
    ("spec.tls.frontend.perPort.port", Read),
    ("spec.tls.frontend.perPort.tls.validation.mode", Read),
    ("spec.tls.frontend.perPort.tls.validation.caCertificateRefs.group", Read),
    ("spec.tls.frontend.perPort.tls.validation.caCertificateRefs.kind", Read),
    ("spec.tls.frontend.perPort.tls.validation.caCertificateRefs.name", Read),
    ("spec.tls.frontend.perPort.tls.validation.caCertificateRefs.namespace", Read),
    ("spec.allowedListeners.**", Not("listeners of others (ListenerSet): write them as [listener.NAME]")),
    ("spec.defaultScope", Idle(OF_CLUSTER)),
];

const GATEWAY_CLASS: Fields = &[
    ("spec.controllerName", Read),
    ("spec.description", Idle(OF_CLUSTER)),
    ("spec.parametersRef.**", Idle("parameters of a class are its implementation's own")),
];

const ROUTE: Fields = &[
    ("spec.parentRefs.group", Read),
    ("spec.parentRefs.kind", Read),
    ("spec.parentRefs.namespace", Read),
    ("spec.parentRefs.name", Read),
    ("spec.parentRefs.sectionName", Read),
    ("spec.parentRefs.port", Read),
    ("spec.hostnames", Read),
    ("spec.useDefaultGateways", Idle(OF_CLUSTER)),
    ("spec.rules.name", Read),
    ("spec.rules.matches.path.type", Read),
    ("spec.rules.matches.path.value", Read),
    ("spec.rules.matches.headers.type", Read),
    ("spec.rules.matches.headers.name", Read),
    ("spec.rules.matches.headers.value", Read),
    ("spec.rules.matches.queryParams.type", Read),
    ("spec.rules.matches.queryParams.name", Read),
    ("spec.rules.matches.queryParams.value", Read),
    ("spec.rules.matches.method", Read),
    ("spec.rules.matches.method.type", Read),
    ("spec.rules.matches.method.service", Read),
    ("spec.rules.matches.method.method", Read),
    ("spec.rules.filters.type", Read),
    ("spec.rules.filters.requestHeaderModifier.set.name", Read),
    ("spec.rules.filters.requestHeaderModifier.set.value", Read),
    ("spec.rules.filters.requestHeaderModifier.add.name", Read),
    ("spec.rules.filters.requestHeaderModifier.add.value", Read),
    ("spec.rules.filters.requestHeaderModifier.remove", Read),
    ("spec.rules.filters.responseHeaderModifier.set.name", Read),
    ("spec.rules.filters.responseHeaderModifier.set.value", Read),
    ("spec.rules.filters.responseHeaderModifier.add.name", Read),
    ("spec.rules.filters.responseHeaderModifier.add.value", Read),
    ("spec.rules.filters.responseHeaderModifier.remove", Read),
    ("spec.rules.filters.requestRedirect.scheme", Read),
    ("spec.rules.filters.requestRedirect.hostname", Read),
    ("spec.rules.filters.requestRedirect.path.type", Read),
    ("spec.rules.filters.requestRedirect.path.replaceFullPath", Read),
    ("spec.rules.filters.requestRedirect.path.replacePrefixMatch", Read),
    ("spec.rules.filters.requestRedirect.port", Read),
    ("spec.rules.filters.requestRedirect.statusCode", Read),
    ("spec.rules.filters.urlRewrite.hostname", Read),
    ("spec.rules.filters.urlRewrite.path.type", Read),
    ("spec.rules.filters.urlRewrite.path.replaceFullPath", Read),
    ("spec.rules.filters.urlRewrite.path.replacePrefixMatch", Read),
    ("spec.rules.filters.requestMirror.backendRef.group", Read),
    ("spec.rules.filters.requestMirror.backendRef.kind", Read),
    ("spec.rules.filters.requestMirror.backendRef.name", Read),
    ("spec.rules.filters.requestMirror.backendRef.namespace", Read),
    ("spec.rules.filters.requestMirror.backendRef.port", Read),
    ("spec.rules.filters.requestMirror.percent", Read),
    ("spec.rules.filters.requestMirror.fraction.numerator", Read),
    ("spec.rules.filters.requestMirror.fraction.denominator", Read),
    ("spec.rules.filters.extensionRef.group", Read),
    ("spec.rules.filters.extensionRef.kind", Read),
    ("spec.rules.filters.extensionRef.name", Read),
    ("spec.rules.filters.cors.allowOrigins", Read),
    ("spec.rules.filters.cors.allowCredentials", Read),
    ("spec.rules.filters.cors.allowMethods", Read),
    ("spec.rules.filters.cors.allowHeaders", Read),
    ("spec.rules.filters.cors.exposeHeaders", Read),
    ("spec.rules.filters.cors.maxAge", Read),
    ("spec.rules.filters.externalAuth.**", Read),
    ("spec.rules.backendRefs.group", Read),
    ("spec.rules.backendRefs.kind", Read),
    ("spec.rules.backendRefs.namespace", Read),
    ("spec.rules.backendRefs.name", Read),
    ("spec.rules.backendRefs.port", Read),
    ("spec.rules.backendRefs.weight", Read),
    ("spec.rules.timeouts.request", Read),
    ("spec.rules.timeouts.backendRequest", Read),
    ("spec.rules.retry.codes", Read),
    ("spec.rules.retry.attempts", Read),
    ("spec.rules.retry.backoff", Read),
    ("spec.rules.sessionPersistence.sessionName", Read),
    ("spec.rules.sessionPersistence.absoluteTimeout", Read),
    ("spec.rules.sessionPersistence.idleTimeout", Read),
    ("spec.rules.sessionPersistence.type", Read),
    ("spec.rules.sessionPersistence.cookieConfig.lifetimeType", Read),
];

const GRANT: Fields = &[
    ("spec.from.group", Read),
    ("spec.from.kind", Read),
    ("spec.from.namespace", Read),
    ("spec.to.group", Read),
    ("spec.to.kind", Read),
    ("spec.to.name", Read),
];

const BACKEND_TLS: Fields = &[
    ("spec.targetRefs.group", Read),
    ("spec.targetRefs.kind", Read),
    ("spec.targetRefs.name", Read),
    ("spec.targetRefs.sectionName", Read),
    ("spec.validation.hostname", Read),
    ("spec.validation.caCertificateRefs.group", Read),
    ("spec.validation.caCertificateRefs.kind", Read),
    ("spec.validation.caCertificateRefs.name", Read),
    ("spec.validation.wellKnownCACertificates", Read),
    ("spec.validation.subjectAltNames.**", Not("one name is verified: `server_name` in tls of the pool")),
    ("spec.options.**", Not("options of a policy are an implementation's own: see `tls` of the pool")),
];

const NAMESPACE: Fields = &[("spec.finalizers", Idle(OF_CLUSTER)), ("metadata.labels.*", Read)];

/// Kinds whose fields are known.
const KINDS: &[(&str, Fields)] = &[
    ("Ingress", INGRESS),
    ("IngressClass", INGRESS_CLASS),
    ("Service", SERVICE),
    ("EndpointSlice", SLICE),
    ("Endpoints", ENDPOINTS),
    ("Secret", SECRET),
    ("ConfigMap", CONFIG_MAP),
    ("Namespace", NAMESPACE),
    ("Gateway", GATEWAY),
    ("GatewayClass", GATEWAY_CLASS),
    ("HTTPRoute", ROUTE),
    ("GRPCRoute", ROUTE),
    ("TLSRoute", ROUTE),
    ("TCPRoute", ROUTE),
    ("UDPRoute", ROUTE),
    ("ReferenceGrant", GRANT),
    ("BackendTLSPolicy", BACKEND_TLS),
];

/// Names of lists, wherever they stand.
const LISTS: &[&str] = &[
    "rules",
    "hosts",
    "paths",
    "ports",
    "endpoints",
    "addresses",
    "subsets",
    "listeners",
    "certificateRefs",
    "caCertificateRefs",
    "kinds",
    "perPort",
    "parentRefs",
    "hostnames",
    "matches",
    "headers",
    "queryParams",
    "filters",
    "set",
    "add",
    "remove",
    "backendRefs",
    "allowOrigins",
    "allowMethods",
    "allowHeaders",
    "exposeHeaders",
    "codes",
    "targetRefs",
];

/// Lists of one kind, whose names are something else elsewhere.
const LISTS_OF: &[(&str, &str)] = &[
    ("Ingress", "spec.tls"),
    ("ReferenceGrant", "spec.from"),
    ("ReferenceGrant", "spec.to"),
    ("Service", "spec.clusterIPs"),
];

/// Says of every line of an object what becomes of it. Returns whether its kind is one that is read.
pub(super) fn tell(object: &Object<'_>, report: &mut Report) -> bool {
    let Some((_, own)) = KINDS.iter().find(|(kind, _)| *kind == object.kind) else { return false };
    let annotations = object.node.get("metadata").and_then(|metadata| metadata.entry("annotations"));
    if let Some((key, value)) = annotations {
        if value.pairs().is_empty() && !value.is_empty() {
            report.wrong(key.at, "annotations are names with texts: Kubernetes refuses the object");
            rest(value, key.at, report);
        } else if object.kind != "Ingress" {
            report.ignored(key.at, "annotations are read of Ingresses alone");
            rest(value, key.at, report);
        } else {
            report.translated(key.at);
        }
    }
    let mut walk = Walk { own, kind: object.kind, path: String::new(), report };
    walk.table(object.node);
    true
}

struct Walk<'w> {
    own: Fields,
    kind: &'w str,
    path: String,
    report: &'w mut Report,
}

impl Walk<'_> {
    fn table(&mut self, node: &Node) {
        for (key, value) in node.pairs() {
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key.text);
            self.field(key.at, value);
            self.path.truncate(length);
        }
    }

    fn field(&mut self, at: Place, value: &Node) {
        let call = self.kind == "GRPCRoute" && self.path == "spec.rules.matches.method";
        let fate = self.fate().filter(|_| !call);
        if let Some(why) = self.misshapen(fate, value) {
            self.report.wrong(at, format!("{why}: Kubernetes refuses the object, and here it is left out"));
            return rest(value, at, self.report);
        }
        match fate {
            Some(Read) => {
                self.report.translated(at);
                value.tell(super::super::report::Verdict::Translated, "", self.report);
            }
            Some(Idle(why)) => {
                self.report.ignored(at, why);
                rest(value, at, self.report);
            }
            Some(Not(remedy)) => {
                self.report.not_possible(at, remedy);
                rest(value, at, self.report);
            }
            Some(Else) => {}
            None if self.is_inner() => match value.items() {
                [] if value.pairs().is_empty() => self.report.translated(at),
                [] => self.table(value),
                items => items.iter().for_each(|item| self.table(item)),
            },
            None => {
                let name = self.path.clone();
                let text = format!("{} has no field `{name}`: Kubernetes drops it", article(self.kind));
                self.report.wrong(at, text);
                rest(value, at, self.report);
            }
        }
    }

    /// Why a value is nothing that the field could have.
    fn misshapen(&self, fate: Option<Fate>, value: &Node) -> Option<&'static str> {
        let below = fate.is_none() && self.is_inner();
        if value.is_empty()
            || !below && !matches!(fate, Some(Read))
            || self.path.starts_with("metadata.labels.")
        {
            return None;
        }
        let last = self.path.rsplit('.').next().unwrap_or("");
        let list = LISTS.contains(&last) || LISTS_OF.contains(&(self.kind, self.path.as_str()));
        let selector = self.path.contains(".selector");
        match &value.content {
            _ if selector => None,
            Content::List(_) if !list => Some("this is no list"),
            Content::Map(_) if list => Some("this is a list"),
            Content::Scalar { .. } if list => Some("this is a list"),
            Content::Scalar { .. } if below => Some("this has fields of its own"),
            Content::Map(_) if !below => Some("this has no fields of its own"),
            Content::List(items) if below != items.iter().all(|item| !item.pairs().is_empty()) => {
                Some(if below { "each element has fields of its own" } else { "each element is a text" })
            }
            _ => None,
        }
    }

    /// Filters of a backend are those of a rule.
    fn rule_path(&self) -> Cow<'_, str> {
        match self.path.strip_prefix("spec.rules.backendRefs.filters") {
            Some(rest) => Cow::Owned(format!("spec.rules.filters{rest}")),
            None => Cow::Borrowed(&self.path),
        }
    }

    fn fate(&self) -> Option<Fate> {
        let path = self.rule_path();
        let path = path.as_ref();
        let fits = |rule: &str| match rule.strip_suffix("**") {
            Some(start) => path
                .strip_prefix(start.trim_end_matches('.'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') && rest.len() > 1),
            None => match rule.strip_suffix(".*") {
                Some(start) => path.strip_prefix(start).is_some_and(|rest| rest.starts_with('.')),
                None => rule == path,
            },
        };
        self.own.iter().chain(COMMON).find(|(rule, _)| fits(rule)).map(|(_, fate)| *fate)
    }

    /// Whether there are fields below.
    fn is_inner(&self) -> bool {
        let path = self.rule_path();
        let below = |rule: &str| rule.strip_prefix(path.as_ref()).is_some_and(|rest| rest.starts_with('.'));
        self.own.iter().chain(COMMON).any(|(rule, _)| below(rule))
    }
}

/// `an Ingress`, `a Service`.
#[must_use]
pub(super) fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['A', 'E', 'I', 'O', 'U']) && !kind.starts_with("UDP");
    let aloud = kind.starts_with("HTTP");
    format!("{} {kind}", if vowel || aloud { "an" } else { "a" })
}

/// What stands below a line that nothing stands for shares its fate.
pub(super) fn rest(node: &Node, at: Place, report: &mut Report) {
    let text = format!("as line {}", at.line);
    node.each_place(&mut |here, _| {
        if report.remarks(here).is_empty() {
            report.ignored(here, text.clone());
        }
    });
}
