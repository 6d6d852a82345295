//! Any bytes are a ruleset or an error, in every form and both families.
#![no_main]

use ecs_netguard::ruleset::{Family, File, parse_file, parse_listing, parse_save};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for family in [Family::V4, Family::V6] {
        if let Ok(ruleset) = parse_save(family, bytes) {
            let rules: usize = ruleset
                .tables
                .values()
                .flat_map(|table| table.chains.values())
                .map(|chain| chain.rules.len())
                .sum();
            assert!(rules <= bytes.len(), "more rules than bytes");
        }
        if let Ok(File::Native(saved)) = parse_file(family, bytes) {
            let _ = saved.decode(family, false);
        }
        let _ = parse_listing(family, "filter", bytes);
    }
});
