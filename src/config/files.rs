//! Files that settings name. Read by `setting` once, at the start; an error here says what is wrong
//! and repeats neither the path, which may be a secret in the wrong place, nor the content.

use std::{fs::File, io::Read};

/// More than any list of tokens. What never ends, as a device does, ends there.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The whole file, as text.
pub(super) fn read_text(path: &str) -> Result<String, String> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| {
        let mut file = file.take(FILE_BYTES_MAX + 1);
        file.read_to_end(&mut text)
    });
    match read {
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(read) if read as u64 > FILE_BYTES_MAX => Err("must have at most 1 MiB".to_owned()),
        Ok(_) => String::from_utf8(text).map_err(|_| "must be UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Cli, Command, Config, Scope};
    use std::{fs, path::PathBuf};
    use tempfile::TempDir;

    fn file(content: &[u8]) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s3cret-path");
        fs::write(&path, content).unwrap();
        (directory, path)
    }

    fn parse(args: &[&str]) -> Result<Config, String> {
        let args = ["oncelog"].iter().chain(args);
        match Cli::parse_from(args, |_| None).map_err(|error| error.to_string())? {
            Command::Serve(config) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    fn parse_file(flag: &str, content: &[u8]) -> Result<Config, String> {
        let (_directory, path) = file(content);
        parse(&[flag, path.to_str().unwrap()])
    }

    #[test]
    fn a_token_ends_before_the_newline_of_its_file() {
        for content in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            let config = parse_file("--admin-token-file", content.as_bytes()).unwrap();
            assert_eq!(config.admin_token.unwrap().expose(), "s3cret");
        }
    }

    #[test]
    fn a_file_of_tokens_has_one_a_line_and_comments() {
        let content = b"# of 2026\r\nabc\r\n\r\n  # ops\n ops:read+admin:x:y \n#";
        let tokens = parse_file("--api-tokens-file", content).unwrap().api_tokens;
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens[0].secret.expose(), "abc");
        assert_eq!(tokens[1].secret.expose(), "x:y");
        assert_eq!(tokens[1].scopes, [Scope::Read, Scope::Admin]);
    }

    #[test]
    fn a_wrong_file_is_one_line_that_names_setting_and_line_and_no_secret() {
        let large = vec![b'a'; 1024 * 1024 + 1];
        for (flag, content, end) in [
            (
                "--admin-token-file",
                &b" \n"[..],
                "visible ASCII characters",
            ),
            (
                "--admin-token-file",
                b"s3cret\ns3cret\n",
                "visible ASCII characters",
            ),
            ("--admin-token-file", b"s3cret\xff", "must be UTF-8"),
            ("--admin-token-file", &large, "must have at most 1 MiB"),
            ("--api-tokens-file", b"", "at least one token"),
            ("--api-tokens-file", b"# s3cret\n\n", "at least one token"),
            (
                "--api-tokens-file",
                b"\ns3cret a\n",
                "visible ASCII characters in line 2",
            ),
            (
                "--api-tokens-file",
                b"a\nb\nci:fly:s3cret",
                "publish, read and admin in line 3",
            ),
            (
                "--api-tokens-file",
                b"s3cret\n#\ns3cret",
                "does so in line 3",
            ),
            (
                "--api-tokens-file",
                b"#\ns3cret-1,s3cret-2",
                "has one in line 2",
            ),
        ] {
            let line = parse_file(flag, content).unwrap_err();
            let variable = flag[2..].replace('-', "_").to_uppercase();
            assert!(
                line.starts_with(&format!("{variable} ({flag}): the file ")),
                "{line}"
            );
            assert!(line.ends_with(end), "{line}");
            assert!(!line.contains("s3cret") && !line.contains('\n'), "{line}");
        }
        let missing = parse(&["--admin-token-file", "/nowhere/s3cret"]).unwrap_err();
        assert_eq!(
            missing,
            "ADMIN_TOKEN_FILE (--admin-token-file): the file cannot be read: \
             No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_setting_and_its_file_exclude_each_other() {
        let (_directory, path) = file(b"a");
        for name in ["admin-token", "api-tokens"] {
            let (value, from_file) = (format!("--{name}=s3cret"), format!("--{name}-file"));
            let line = parse(&[&value, &from_file, path.to_str().unwrap()]).unwrap_err();
            let variable = name.replace('-', "_").to_uppercase();
            assert_eq!(
                line,
                format!(
                    "{variable}_FILE (--{name}-file): the file must not be named where {variable} is set"
                )
            );
            // Empty is as unset.
            let value = format!("--{name}=");
            assert!(parse(&[&value, &from_file, path.to_str().unwrap()]).is_ok());
        }
    }
}
