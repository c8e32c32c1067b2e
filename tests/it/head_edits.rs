//! Head edits of routes, on the way to the endpoint and back.

use crate::harness::origin::Origin;
use crate::harness::proxy::Setup;

#[test]
fn fields_are_set_added_and_removed_both_ways() {
    let origin = Origin::replying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: secret/1.0\r\nX-Set: old\r\nX-Set: older\r\nX-Add: 1\r\n\r\nok",
    );
    let edits = "{ set = { x-set = \"new\" }, add = { x-add = \"2\" }, remove = [\"server\", \"cookie\"] }";
    let proxy = Setup::http(&[origin.address()])
        .routes(&format!(
            "[[route]]\nname = \"all\"\npool = \"main\"\nrequest_headers = {edits}\nresponse_headers = {edits}\n"
        ))
        .start();
    let answer = proxy
        .connect()
        .say("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\nX-Set: old\r\nX-Set: older\r\nX-Add: 1\r\n\r\n")
        .answer();
    for message in [&origin.request(0), &answer] {
        assert_eq!(message.fields("x-set"), ["new"]);
        assert_eq!(message.fields("x-add"), ["1", "2"]);
        assert_eq!((message.field("server"), message.field("cookie")), (None, None));
    }
    assert_eq!(answer.text(), "ok");
}

#[test]
fn answers_of_ours_are_edited_too() {
    let origin = Origin::saying("ok");
    let proxy = Setup::http(&[origin.address()])
        .routes(
            "[[route]]\nname = \"all\"\nrespond = { status = 200, body = \"hi\" }\n\
             response_headers = { set = { strict-transport-security = \"max-age=1\" } }\n",
        )
        .start();
    assert_eq!(proxy.get("/").field("strict-transport-security").as_deref(), Some("max-age=1"));
}
