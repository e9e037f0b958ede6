//! The ledger's proof: leaves, tree, checkpoints, tiles, offline verification, provenance graph.
