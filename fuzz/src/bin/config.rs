//! Configuration text: every text gets its diagnostics, and what loads can be shown and loaded again with the same meaning.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use plimsoll::config::{load_text, show};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // An include reads what lies on the machine: an escape in the key would only hide the word.
    if text.contains("include") || text.contains("\\u") || text.contains("\\U") || text.contains("\\x") {
        return;
    }
    let name = Path::new("/nonexistent/fuzz.toml");
    let loaded = load_text(text, name, &|_| None);
    let config = match loaded {
        Ok(config) => config,
        Err(diagnostics) => {
            assert!(diagnostics.count() > 0);
            assert!(!diagnostics.to_string().is_empty());
            return;
        }
    };
    let shown = show(&config);
    let again = load_text(&shown, name, &|_| None);
    let again = again.unwrap_or_else(|errors| panic!("what is shown does not load:\n{errors}\n{shown}"));
    assert_eq!(show(&again), shown, "what is shown means something else");
});
