//! The listening socket. Made by `app` before anything else, and closed by it before the last requests
//! are answered.

use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener},
};

/// Connections that wait to be accepted, beyond which a client's first packet is lost.
const BACKLOG: i32 = 4096;

/// A port that is listened on.
#[derive(Debug)]
pub(super) struct Listener(Socket);

impl Listener {
    /// Takes the port.
    ///
    /// # Errors
    /// It is taken already, or not to be had by this user.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
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
