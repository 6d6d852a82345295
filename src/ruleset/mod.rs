//! The model of what the kernel holds: tables, chains, rules.
