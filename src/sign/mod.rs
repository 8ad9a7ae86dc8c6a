//! Authenticates requests to providers, and seals provider state that clients return.

use crate::secret::Secret;
use fresh::Reason;
use std::path::Path;

pub mod aws;
pub mod credential;
pub mod fresh;
pub mod google;
pub mod http;
pub mod signer;
#[cfg(test)]
mod testing;

/// Maximum size of a file with credentials, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Reads an environment variable.
type Env<'e> = &'e (dyn Fn(&str) -> Option<String> + Sync);

/// An environment variable that is not empty.
fn variable(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// Reads a file with credentials.
///
/// # Errors
/// Why it cannot be read, with its path.
async fn read_secret(path: &Path) -> Result<Secret, Reason> {
    let shown = path.display();
    let size = tokio::fs::metadata(path).await.map_err(|e| format!("{shown}: {e}"))?.len();
    if size > MAX_FILE {
        return Err(format!("{shown} is larger than {MAX_FILE} bytes").into());
    }
    Ok(Secret::new(tokio::fs::read_to_string(path).await.map_err(|e| format!("{shown}: {e}"))?))
}
