//! `run --observe`: what a configuration sees and tells, while no listener of it is bound.

use std::net::TcpStream;

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;
use crate::harness::{free_port, own_ip, until};

#[test]
fn probes_and_events_run_and_no_listener_is_bound() {
    let (origin, hook) = (Origin::saying("ok"), Origin::saying("thanks"));
    let down = free_port(own_ip());
    let sink = format!(
        "[pool.main.health]\ninterval = \"100ms\"\n\n[[notify]]\nwebhook = \"http://{}/\"\nevents = [\"endpoint\"]\n",
        hook.address()
    );
    let proxy = Setup::http(&[origin.address(), down]).text(&sink).observe().start();
    let states = until("both probes", || {
        let pool: serde_json::Value =
            serde_json::from_slice(&proxy.admin_get("/v1/pools/main").body).expect("JSON");
        let state = |place: usize| pool["endpoints"][place]["probe"]["state"].as_str().map(str::to_owned);
        let states = [state(0)?, state(1)?];
        states.iter().all(|state| state != "off" && state != "unknown").then_some(states)
    });
    assert_eq!(states, ["up", "cannot be asked"]);
    let told: serde_json::Value = serde_json::from_slice(&hook.request(0).body).expect("JSON");
    assert_eq!(told["kind"], "endpoint");
    assert!(TcpStream::connect(proxy.web).is_err(), "nobody listens");
    let ready = proxy.admin_get("/readyz");
    assert!(ready.status() == 503 && ready.text().contains("observes"), "{}", ready.text());
}
