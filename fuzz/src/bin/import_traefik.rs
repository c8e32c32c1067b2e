//! Files of Traefik; without a name of its own an input is a static file in YAML.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::cli::import::traefik;

fuzz_target!(|data: &[u8]| plimsoll_fuzz::import(data, "traefik.yml", traefik::import));
