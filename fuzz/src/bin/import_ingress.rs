//! Objects of Kubernetes; without a name of its own an input is one file of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::cli::import::ingress;

fuzz_target!(|data: &[u8]| plimsoll_fuzz::import(data, "objects.yaml", ingress::import));
