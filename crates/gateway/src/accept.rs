//! Taking connections: so many at once, each in a task of its own, whatever happens to one of them.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long nothing is accepted after a connection could not be: the system is short of something.
const BREATH: Duration = Duration::from_millis(50);

/// Serves each connection in `running`, `most` of them at once; further ones wait. It does not end by itself: drop it
/// to take no more, and drop `running` to end those that are served.
pub(crate) async fn accept<F>(
    listener: TcpListener,
    most: usize,
    running: &mut JoinSet<()>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(most));
    loop {
        while running.try_join_next().is_some() {}
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                // Small messages go back and forth here; waiting to fill packets only costs time.
                let _ = stream.set_nodelay(true);
                let served = serve(stream, from);
                running.spawn(async move {
                    let _permit = permit;
                    served.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(BREATH).await;
            }
        }
    }
}
