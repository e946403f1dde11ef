//! The servers that a Postgres URL names, in the form of libpq: `postgres://user@one:5432,two/events`.
//! Read by the store to connect, and by `config` to say early what is wrong; connects to nobody.
//!
//! <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS>

use url::Url;

const ATTRIBUTES: &str = "target_session_attrs";

/// What a server has to be for us to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever answers.
    Any,
    /// One that takes writes.
    ReadWrite,
    /// One that takes none.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is.
    Standby,
}

/// A URL for each server, and which of them is wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresHosts {
    urls: Vec<String>,
    wanted: Wanted,
}

impl PostgresHosts {
    /// Reads a URL whose connections write. Several servers without a word about it: the one that
    /// takes writes.
    ///
    /// # Errors
    /// What the URL must be, without a word of it.
    pub fn for_writing(url: &str) -> Result<Self, String> {
        let hosts = Self::parse(url, Wanted::ReadWrite)?;
        match hosts.wanted {
            Wanted::ReadOnly | Wanted::Standby => Err(format!(
                "must have any, read-write or primary as {ATTRIBUTES}, as events are written there"
            )),
            _ => Ok(hosts),
        }
    }

    /// Reads a URL whose connections only read: without a word about it, whatever answers will do.
    ///
    /// # Errors
    /// As [`Self::for_writing`].
    pub fn for_reading(url: &str) -> Result<Self, String> {
        Self::parse(url, Wanted::Any)
    }

    fn parse(url: &str, wanted_of_several: Wanted) -> Result<Self, String> {
        let (url, wanted) = without_attributes(url)?;
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| "must be a URL".to_owned())?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let urls: Vec<String> = hosts
            .split(',')
            .map(|host| format!("{scheme}://{user}{host}{rest}"))
            .collect();
        if urls.len() > 1 && hosts.split(',').any(str::is_empty) {
            return Err(
                "must name a server between commas, as postgres://one,two/events does".to_owned(),
            );
        }
        for url in &urls {
            check(url)?;
        }
        let default = match urls.len() {
            1 => Wanted::Any,
            _ => wanted_of_several,
        };
        Ok(Self {
            urls,
            wanted: wanted.unwrap_or(default),
        })
    }

    /// A URL for each server, in the order in which they are tried.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// What a server has to be.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }
}

/// The URL without what sqlx does not know, and what that said.
fn without_attributes(url: &str) -> Result<(String, Option<Wanted>), String> {
    let Some((before, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None));
    };
    let mut wanted = None;
    let mut others = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((ATTRIBUTES, value)) => {
                wanted = Some(match value {
                    "any" => Wanted::Any,
                    "read-write" => Wanted::ReadWrite,
                    "read-only" => Wanted::ReadOnly,
                    "primary" => Wanted::Primary,
                    "standby" => Wanted::Standby,
                    _ => {
                        return Err(format!(
                            "must have any, read-write, read-only, primary or standby as {ATTRIBUTES}"
                        ));
                    }
                });
            }
            _ => others.push(pair),
        }
    }
    let url = match others.is_empty() {
        true => before.to_owned(),
        false => format!("{before}?{}", others.join("&")),
    };
    Ok((url, wanted))
}

fn check(url: &str) -> Result<(), String> {
    let url = Url::parse(url).map_err(|error| {
        format!("must be a URL, with special characters of a password as %XX, and is not: {error}")
    })?;
    let lists = url
        .query_pairs()
        .any(|(name, value)| matches!(&*name, "host" | "hostaddr" | "port") && value.contains(','));
    if lists {
        return Err(
            "must name several servers before the database, as postgres://one,two/events does"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (Vec<String>, Wanted) {
        let hosts = PostgresHosts::for_writing(url).unwrap();
        (hosts.urls, hosts.wanted)
    }

    #[test]
    fn one_server_is_taken_as_it_is() {
        for url in [
            "postgres://localhost/events",
            "postgres://u:p%40@[::1]:5433/events?sslmode=disable",
            "postgres:///events?host=/run/postgresql",
        ] {
            assert_eq!(read(url), (vec![url.to_owned()], Wanted::Any));
        }
    }

    #[test]
    fn several_servers_are_a_url_each() {
        let (urls, wanted) = read("postgres://u:p%2C@one:5433,[::1],two/e?sslmode=require");
        assert_eq!(
            urls,
            [
                "postgres://u:p%2C@one:5433/e?sslmode=require",
                "postgres://u:p%2C@[::1]/e?sslmode=require",
                "postgres://u:p%2C@two/e?sslmode=require",
            ]
        );
        assert_eq!(wanted, Wanted::ReadWrite);
    }

    #[test]
    fn which_of_them_is_wanted_is_no_parameter_of_the_connection() {
        let (urls, wanted) = read("postgres://one,two/e?target_session_attrs=any&sslmode=disable");
        assert_eq!(
            urls,
            [
                "postgres://one/e?sslmode=disable",
                "postgres://two/e?sslmode=disable"
            ]
        );
        assert_eq!(wanted, Wanted::Any);
        let one = read("postgres://one/e?target_session_attrs=primary");
        assert_eq!(one, (vec!["postgres://one/e".to_owned()], Wanted::Primary));
    }

    #[test]
    fn each_word_of_libpq_for_who_writes_is_read_and_no_other() {
        for (word, wanted) in [
            ("any", Wanted::Any),
            ("read-write", Wanted::ReadWrite),
            ("primary", Wanted::Primary),
        ] {
            for servers in ["one", "one:5433,two"] {
                let (urls, read) = read(&format!(
                    "postgres://{servers}/e?sslmode=disable&target_session_attrs={word}"
                ));
                assert_eq!(read, wanted, "{word}");
                let first = servers.split(',').next().unwrap_or_default();
                assert_eq!(urls[0], format!("postgres://{first}/e?sslmode=disable"));
            }
        }
        // libpq has prefer-standby as well, which would have us write nowhere.
        for word in ["prefer-standby", "Read-Write", "read_write", "master", ""] {
            let url = format!("postgres://one,two/e?target_session_attrs={word}");
            let expected =
                "must have any, read-write, read-only, primary or standby as target_session_attrs";
            for hosts in [
                PostgresHosts::for_writing(&url),
                PostgresHosts::for_reading(&url),
            ] {
                assert_eq!(hosts.err().as_deref(), Some(expected), "{word}");
            }
        }
        for word in ["read-only", "standby"] {
            let url = format!("postgres://one,two/e?target_session_attrs={word}");
            let refused = PostgresHosts::for_writing(&url).err();
            assert!(refused.is_some_and(|reason| reason.ends_with("as events are written there")));
            assert!(PostgresHosts::for_reading(&url).is_ok());
        }
    }

    #[test]
    fn who_only_reads_may_want_a_standby() {
        let url = "postgres://one,two/e";
        assert_eq!(PostgresHosts::for_reading(url).unwrap().wanted, Wanted::Any);
        let url = "postgres://one,two/e?target_session_attrs=standby";
        assert_eq!(
            PostgresHosts::for_reading(url).unwrap().wanted,
            Wanted::Standby
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for url in [
            "postgres://u:secret@one,,two/e",
            "postgres://u:secret@one:5432x,two/e",
            "postgres://u:secret@one/e?target_session_attrs=writable",
            "postgres://u:secret@one,two/e?target_session_attrs=standby",
            "postgres://u:secret@one/e?host=one,two",
        ] {
            let expected = PostgresHosts::for_writing(url).err();
            let expected = expected.expect(url);
            assert!(expected.starts_with("must "), "{expected}");
            assert!(!expected.contains("secret"), "{expected}");
        }
    }
}
