//! The control plane over HTTP: v1 API, token endpoint, events.
