//! The promise to outsiders: v1 wire types, the decision point and control plane traits, a client.
