//! Pages of other origins, rebound names, and requests with two readings.

use crate::world::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends bytes as they are; gives the status of the first answer, 0 if the connection was just closed.
async fn raw(world: &World, text: &str) -> u16 {
    let address = world.base.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(text.replace("HOST", address).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(std::time::Duration::from_secs(20), read).await.unwrap().unwrap_or_default();
    let line = String::from_utf8_lossy(&answer);
    line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

// proves: A48
#[tokio::test]
async fn a_page_of_another_origin_and_a_rebound_name_get_nothing() {
    let world = World::new().await;
    let key = world.key("root");
    let ask = async |host: &str, extra: &str| {
        raw(&world, &format!("GET /v1/status HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n{extra}Connection: close\r\n\r\n")).await
    };
    assert_eq!(ask("HOST", "").await, 200);
    assert_eq!(ask("HOST", &format!("Origin: {}\r\n", world.base)).await, 200);
    for host in ["evil.example", "localhost:1", "HOST.evil.example", ""] {
        assert_eq!(ask(host, "").await, 421, "{host}");
    }
    for origin in ["http://evil.example", "null", "https://127.0.0.1"] {
        assert_eq!(ask("HOST", &format!("Origin: {origin}\r\n")).await, 403, "{origin}");
    }
    let stray = raw(&world, "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(stray, 421, "paths that are no route say no more");

    let form = world.http.post(format!("{}/v1/halts", world.base)).bearer_auth(&key);
    let form =
        form.header("content-type", "text/plain").body(r#"{"scope":"all","halt":"killed","reason":"x"}"#);
    assert_eq!(form.send().await.unwrap().status(), 415, "a page can post a form, not JSON");
}

// proves: A24
#[tokio::test]
async fn a_request_with_two_readings_is_refused() {
    let world = World::new().await;
    let before = world.size().await;
    let auth = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nConnection: close\r\n",
        world.key("root")
    );
    for (what, head) in [
        ("two hosts", "Host: HOST\r\nHost: HOST\r\n"),
        ("chunks", "Host: HOST\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", "Host: HOST\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n"),
        ("lengths that differ", "Host: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n"),
        ("a folded header", "Host: HOST\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n"),
    ] {
        let status = raw(&world, &format!("PUT /v1/directory HTTP/1.1\r\n{head}{auth}\r\n{{}}")).await;
        assert!(matches!(status, 0 | 400 | 411 | 421), "{what}: {status}");
    }
    assert_eq!(world.size().await, before);
    let plain = raw(
        &world,
        &format!("PUT /v1/directory HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\n{auth}\r\n{{}}"),
    )
    .await;
    assert_eq!(plain, 200, "the pair");
}

#[tokio::test]
async fn strays_are_told_so_and_every_answer_has_a_request_id() {
    let world = World::new().await;
    let get = async |method: &str, path: &str| {
        let request = world.http.request(method.parse().unwrap(), format!("{}{path}", world.base));
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key("x-request-id"), "{method} {path}");
        let status = response.status().as_u16();
        let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(get("GET", "/nowhere").await, (404, "route.unknown".to_owned()));
    assert_eq!(get("DELETE", "/v1/status").await, (405, "route.method".to_owned()));
    assert_eq!(get("GET", "/v1/tasks?limit=x").await, (401, "person.unknown".to_owned()));
}
