//! The listening socket. Made by `app` before anything else, and closed by it before the last requests
//! are answered.

use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener},
    time::Duration,
};

/// Connections that wait to be accepted, beyond which a client's first packet is lost.
const BACKLOG: i32 = 4096;
/// Bytes that the kernel takes for a client beyond those that its window has room for: without a bound it takes
/// up to 4 MiB for each that does not read.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// A port that is listened on.
#[derive(Debug)]
pub(super) struct Listener(Socket);

impl Listener {
    /// Takes the port. Its connections are given up where the client takes nothing of what it is sent for
    /// `send_timeout`.
    ///
    /// # Errors
    /// It is taken already, or not to be had by this user.
    pub(super) fn open(address: SocketAddr, send_timeout: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        // Connections inherit both. The process itself is not told that a client does not read.
        #[cfg(target_os = "linux")]
        {
            socket.set_tcp_user_timeout(Some(send_timeout))?;
            socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = send_timeout;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self(socket))
    }

    /// The same socket, for a server to accept from.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn share(&self) -> io::Result<TcpListener> {
        Ok(self.0.try_clone()?.into())
    }

    /// From now on who connects is refused at once, as if nobody were there, and so finds another
    /// replica. A server that only stops to accept would leave them waiting until the process ends.
    pub(super) fn close(&self) {
        // Where the system cannot do that, they wait.
        let _ = self.0.shutdown(Shutdown::Read);
    }
}
