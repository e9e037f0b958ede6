//! One door for both front doors of a node: HTTP API and gateway judge tokens by the same code and remember used
//! proofs in the same window, so that a proof shown to one is used up at the other.

use std::sync::Arc;

use bailiwick_api::Caller;
use bailiwick_gateway::TokenDoor;
use bailiwick_gateway::door::{Door, Knock, Refused};
use bailiwick_server::{AgentDoor, Shut};

/// The shared door.
#[derive(Clone)]
pub(crate) struct SharedDoor(Arc<TokenDoor>);

impl SharedDoor {
    pub(crate) fn new(door: TokenDoor) -> Self {
        SharedDoor(Arc::new(door))
    }
}

impl Door for SharedDoor {
    async fn admit(&self, knock: Knock<'_>) -> Result<Caller, Refused> {
        self.0.admit(knock).await
    }
}

impl AgentDoor for SharedDoor {
    fn admit<'a>(
        &'a self,
        knock: bailiwick_server::Knock<'a>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Caller, Shut>> + Send + 'a>> {
        let knock = Knock { method: knock.method, path: knock.path, headers: knock.headers };
        Box::pin(async move {
            self.0.admit(knock).await.map_err(|refused| Shut {
                code: refused.code,
                error: refused.challenge.error(),
                reason: refused.reason,
                nonce: refused.nonce,
            })
        })
    }
}
