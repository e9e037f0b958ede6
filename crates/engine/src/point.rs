//! The engine as a decision point for enforcement points in the same process.

use bailiwick_api::{
    AmendAsk, Answer, ApprovalState, Call, Caller, DecisionPoint, Denial, HandoffAsk, HandoffMade, Outcome,
    Pending, PointError, ToolView,
};
use bailiwick_core::{ApprovalId, DecisionId, Value};

use crate::error::{EngineError, Kind};
use crate::log::Engine;

impl From<EngineError> for PointError {
    fn from(error: EngineError) -> Self {
        PointError { retry: error.kind == Kind::Unavailable, code: error.code, reason: error.reason }
    }
}

impl DecisionPoint for Engine {
    async fn decide(&self, caller: &Caller, call: Call) -> Result<Answer, PointError> {
        Ok(Engine::decide(self, caller, call).await?)
    }
    async fn list(&self, caller: &Caller) -> Result<Vec<ToolView>, PointError> {
        Ok(Engine::list(self, caller).await?)
    }
    async fn report(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> Result<(), PointError> {
        Ok(Engine::report(self, caller, decision, outcome).await?)
    }
    async fn report_soon(
        &self,
        caller: &Caller,
        decision: &DecisionId,
        outcome: Outcome,
    ) -> Result<(), PointError> {
        Ok(Engine::report_soon(self, caller, decision, outcome).await?)
    }
    async fn hand_off(
        &self,
        caller: &Caller,
        ask: HandoffAsk,
    ) -> Result<Result<HandoffMade, Denial>, PointError> {
        Ok(Engine::hand_off(self, caller, ask).await?)
    }
    async fn amend(&self, caller: &Caller, ask: AmendAsk) -> Result<Result<Pending, Denial>, PointError> {
        Ok(Engine::propose(self, caller, ask).await?)
    }
    async fn approval(&self, caller: &Caller, approval: &ApprovalId) -> Result<ApprovalState, PointError> {
        Ok(self.approval_state(caller, approval).await?)
    }
    async fn observe(&self, system: &str, definitions: Vec<Value>) -> Result<(), PointError> {
        Ok(Engine::observe(self, system, definitions).await?)
    }
    async fn live(&self, caller: &Caller) -> bool {
        Engine::live(self, caller).await
    }
}
