//! The judgement of bailiwick: values in, decisions and events out. No I/O, no clock, no chance.
