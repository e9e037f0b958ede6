//! The conductor: the verbs of the control plane.
