//! Task tokens: mint, verify, proof of possession.
