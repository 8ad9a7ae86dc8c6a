//! A real nginx (Debian's `nginx-light`), in front of the gateway or behind it.

use super::accepts;
use super::dir::Dir;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::process::{Child, Command};

/// A running nginx; it ends when this is dropped.
pub struct Nginx {
    _child: Child,
    _dir: Dir,
}

impl Nginx {
    /// Starts nginx with this content of the `http` block, in `dir`, and waits until it accepts connections at `address`.
    pub async fn start(dir: Dir, http: &str, address: SocketAddr) -> Self {
        let config = format!(
            "worker_processes 1;\npid nginx.pid;\nerror_log error.log;\nevents {{ worker_connections 1024; }}\n\
             http {{\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n{http}\n}}\n"
        );
        let config = dir.write("nginx.conf", &config);
        let child = Command::new("nginx")
            .arg("-p")
            .arg(dir.join(""))
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(config)
            .args(["-g", "daemon off; master_process off;"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx is installed (apt: nginx-light)");
        accepts("nginx", address).await;
        Self { _child: child, _dir: dir }
    }
}
