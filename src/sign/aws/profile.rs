//! Reads one profile from AWS's shared files, `~/.aws/credentials` and `~/.aws/config`.

use std::collections::HashMap;

/// Settings of a profile, keys in lower case. No `Debug`: it contains secrets.
#[derive(Default)]
pub(super) struct Profile(HashMap<String, String>);

impl Profile {
    /// Reads a profile from both files; the credentials file takes precedence.
    pub(super) fn read(credentials: &str, config: &str, name: &str) -> Self {
        let mut profile = Self::default();
        profile.collect(credentials, |section| section == name);
        profile.collect(config, |section| {
            // "The configuration file uses the prefix word profile; do not use it for [default]."
            section == name && name == "default" || section.strip_prefix("profile").is_some_and(|rest| rest.trim() == name)
        });
        profile
    }

    /// A setting, unless it is missing or empty.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn collect(&mut self, text: &str, wanted: impl Fn(&str) -> bool) {
        let mut inside = false;
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(section) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                inside = wanted(section.trim());
                continue;
            }
            // Indented lines belong to nested settings, which are not used here.
            let nested = line.starts_with([' ', '\t']);
            if let (true, false, Some((key, value))) = (inside, nested, trimmed.split_once('=')) {
                let value = value.split(" #").next().unwrap_or(value).trim();
                self.0.entry(key.trim().to_ascii_lowercase()).or_insert_with(|| value.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read_and_the_credentials_come_first() {
        let credentials = "[default]\naws_access_key_id = A\n\n[work]\n# note\naws_access_key_id=W # mine\nAWS_SECRET_ACCESS_KEY= s+/=\n";
        let config = "[default]\nregion = r\n[profile work]\naws_access_key_id = X\nrole_arn = arn:aws:iam::1:role/x\ns3 =\n  region = nested\n[work]\nregion = wrong\n";
        let work = Profile::read(credentials, config, "work");
        assert_eq!(work.get("aws_access_key_id"), Some("W"));
        assert_eq!(work.get("aws_secret_access_key"), Some("s+/="));
        assert_eq!(work.get("role_arn"), Some("arn:aws:iam::1:role/x"));
        assert_eq!((work.get("region"), work.get("s3")), (None, None));
        let default = Profile::read(credentials, config, "default");
        assert_eq!((default.get("aws_access_key_id"), default.get("region")), (Some("A"), Some("r")));
        assert!(Profile::read("x", "[", "default").get("region").is_none());
    }
}
