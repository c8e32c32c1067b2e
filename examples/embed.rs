//! Runs a proxy inside another program and swaps its configuration while it serves.

use std::error::Error;
use std::path::Path;

use plimsoll::{Config, Proxy, config};

fn configuration(pool: &str) -> Result<Config, config::Diagnostics> {
    let text = format!(
        r#"
        [log]
        access = "off"
        [listener.web]
        bind = ["127.0.0.1:8080"]
        [[route]]
        {pool}
        "#
    );
    config::load_text(&text, Path::new("embedded.toml"), &|name| std::env::var(name).ok())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let proxy = Proxy::start(&configuration("respond = { status = 503, body = \"starting\" }")?)?;
    // Requests that come from now on are answered by the new configuration; no connection is touched.
    proxy.reload(configuration("respond = { status = 200, body = \"ready\" }")?).await?;
    eprintln!("curl http://127.0.0.1:8080/   (generation {})", proxy.status().generation);
    tokio::signal::ctrl_c().await?;
    proxy.shutdown(false).await;
    Ok(())
}
