//! An agent's MCP client at the gateway: stateless requests, each with a fresh proof of possession.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bailiwick_core::ToolId;
use bailiwick_gateway::names::wire_name;
use bailiwick_gateway::{Proof, Prover};
use serde_json::{Value as Json, json};

use crate::holder::Holder;

const MODERN: &str = "2026-07-28";

/// A tool call's answer.
#[derive(Debug, Clone)]
pub(crate) struct Called {
    /// The result object of MCP.
    pub(crate) result: Json,
}

impl Called {
    /// Whether it failed or was refused.
    pub(crate) fn is_error(&self) -> bool {
        self.result["isError"] == true
    }
    /// The structured result.
    pub(crate) fn data(&self) -> &Json {
        &self.result["structuredContent"]
    }
    /// The text, as a model reads it.
    pub(crate) fn text(&self) -> &str {
        self.result["content"][0]["text"].as_str().unwrap_or("")
    }
    /// What bailiwick says of its decision.
    pub(crate) fn decision(&self) -> &Json {
        &self.result["_meta"]["bailiwick/decision"]
    }
}

/// An agent at the gateway, with its own key and its own token.
pub(crate) struct Guarded {
    http: reqwest::Client,
    url: String,
    holder: Arc<Holder>,
}

impl Guarded {
    /// An agent at a server's gateway.
    pub(crate) fn new(server: &str, holder: Arc<Holder>, within: Duration) -> anyhow::Result<Guarded> {
        let http = reqwest::Client::builder().timeout(within).no_proxy().build()?;
        Ok(Guarded { http, url: format!("{server}/mcp"), holder })
    }

    /// The names of the tools it is shown, bailiwick's own left out.
    pub(crate) async fn tools(&self) -> anyhow::Result<Vec<String>> {
        let listed = self.ask("tools/list", None, json!({})).await?;
        Ok(names(&listed).into_iter().filter(|name| !name.starts_with("bailiwick__")).collect())
    }

    /// Calls a tool, `cloud.vm.restart` for instance.
    pub(crate) async fn call(&self, tool: &str, args: Json) -> anyhow::Result<Called> {
        self.call_with(tool, args, None).await
    }

    /// Calls a tool and presents an approval.
    pub(crate) async fn call_with(
        &self,
        tool: &str,
        args: Json,
        approval: Option<&str>,
    ) -> anyhow::Result<Called> {
        let name = wire(tool)?;
        let mut params = json!({"name": name, "arguments": args});
        if let Some(approval) = approval {
            params["_meta"] = json!({"bailiwick/approval": approval});
        }
        Ok(Called { result: self.ask("tools/call", Some(&name), params).await? })
    }

    /// Whether a token opens the gateway, shown with a fresh proof of the right key.
    pub(crate) async fn opens_with(&self, token: &str) -> anyhow::Result<bool> {
        let proof = self.holder.prove_with(token, "POST", &self.url, None)?;
        let request = self.request("tools/list", None, json!({}), &proof);
        let response = request.send().await?;
        if !response.status().is_success() {
            return Ok(false);
        }
        let answer: Json = response.json().await?;
        Ok(result(answer).is_ok_and(|listed| names(&listed).iter().any(|n| !n.starts_with("bailiwick__"))))
    }

    async fn ask(&self, method: &str, name: Option<&str>, params: Json) -> anyhow::Result<Json> {
        let proof = self.holder.prove("POST", &self.url, None).await.map_err(anyhow::Error::msg)?;
        let response = self.request(method, name, params, &proof).send().await?;
        let status = response.status();
        let answer: Json = response.json().await.with_context(|| format!("the gateway answered {status}"))?;
        result(answer)
    }

    fn request(
        &self,
        method: &str,
        name: Option<&str>,
        mut params: Json,
        proof: &Proof,
    ) -> reqwest::RequestBuilder {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "demo", "version": "1"});
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let mut request = self
            .http
            .post(&self.url)
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", MODERN)
            .header("Mcp-Method", method)
            .header("Authorization", proof.authorization.expose())
            .header("DPoP", proof.dpop.expose());
        if let Some(name) = name {
            request = request.header("Mcp-Name", name);
        }
        request.json(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    }
}

/// A tool's name as models are given it.
fn wire(tool: &str) -> anyhow::Result<String> {
    wire_name(&ToolId::parse(tool)?, None).with_context(|| format!("{tool} has no name on the wire"))
}

/// The names in a list of tools.
pub(crate) fn names(listed: &Json) -> Vec<String> {
    let tools = listed["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().filter_map(|t| t["name"].as_str()).map(str::to_owned).collect()
}

/// The result of an answer, or its error in its own words.
pub(crate) fn result(mut answer: Json) -> anyhow::Result<Json> {
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => {
            let error = &answer["error"];
            let words = answer["error_description"].as_str().or(error["message"].as_str()).or(error.as_str());
            bail!("{}", words.unwrap_or("the answer holds neither result nor error"))
        }
    }
}
