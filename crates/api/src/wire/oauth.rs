//! The token endpoint and its metadata.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token (RFC 6749 section 5.1, RFC 8693 section 2.2.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// The task token.
    pub access_token: String,
    /// Always `urn:ietf:params:oauth:token-type:access_token`.
    pub issued_token_type: String,
    /// Always `DPoP`.
    pub token_type: String,
    /// Seconds it is good for.
    pub expires_in: u64,
    /// The grant it carries.
    pub grant: String,
}

impl std::fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenAnswer")
            .field("grant", &self.grant)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// A refusal of the token endpoint (RFC 6749 section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OAuthError {
    /// `invalid_request`, `invalid_client`, `invalid_grant`, `unsupported_grant_type`, `invalid_dpop_proof` …
    pub error: String,
    /// What happened and the next step.
    pub error_description: String,
}

/// Metadata of the authorization server (RFC 8414).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerMetadata {
    /// The issuer of task tokens.
    pub issuer: String,
    /// Where tokens are asked for.
    pub token_endpoint: String,
    /// Where a person asks what a token is.
    pub introspection_endpoint: String,
    /// Where the keys are that verify tokens.
    pub jwks_uri: String,
    /// Always empty: there is no authorization endpoint.
    pub response_types_supported: Vec<String>,
    /// How tokens are asked for.
    pub grant_types_supported: Vec<String>,
    /// How agents prove themselves.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// With which signatures.
    pub token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    /// Proofs of possession, with which signatures.
    pub dpop_signing_alg_values_supported: Vec<String>,
    /// What `authorization_details` carries.
    pub authorization_details_types_supported: Vec<String>,
}

/// What a token is (RFC 7662 section 2.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Introspection {
    /// Whether it is good now; nothing else is said when it is not.
    pub active: bool,
    /// The initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The agent's SPIFFE ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<String>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// When it expires, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
}

/// What a form to the token endpoints may carry, each member at most once. Others are ignored (RFC 6749
/// section 3.2).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TokenForm {
    /// `client_credentials` or `urn:ietf:params:oauth:grant-type:token-exchange`.
    pub grant_type: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    pub client_assertion_type: Option<String>,
    /// The agent's assertion (RFC 7523), signed with its registered key.
    pub client_assertion: Option<String>,
    /// With token exchange: the agent's assertion, if it is not the client assertion.
    pub subject_token: Option<String>,
    /// With token exchange: `urn:ietf:params:oauth:token-type:jwt`.
    pub subject_token_type: Option<String>,
    /// With token exchange: `urn:ietf:params:oauth:token-type:access_token`, or absent.
    pub requested_token_type: Option<String>,
    /// The grant the token shall carry.
    pub grant: Option<String>,
    /// Or the task: the newest live grant of the agent in it.
    pub task: Option<String>,
    /// For whom the token is; if given, it must be the audience of task tokens.
    pub audience: Option<String>,
    /// As `audience` (RFC 8707).
    pub resource: Option<String>,
    /// The client; if given, it must be the agent's SPIFFE ID.
    pub client_id: Option<String>,
    /// For introspection: the token asked about.
    pub token: Option<String>,
    /// For introspection: ignored.
    pub token_type_hint: Option<String>,
}
