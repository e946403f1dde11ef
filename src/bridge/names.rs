//! What the streams, their group and this consumer are called. Known by whoever names them to Redis;
//! producers find the same names in docs/integrations/redis.md.

/// What one stream, its group and this consumer are called.
#[derive(Debug, Clone)]
pub struct StreamNames {
    /// The stream's key.
    pub stream: String,
    /// The consumer group, shared by all replicas.
    pub group: String,
    /// This consumer: the same after a restart, so that it finds what it left pending.
    pub consumer: String,
}

impl StreamNames {
    /// So many streams, this one first. A larger number has all the streams of a smaller one, so
    /// that no entry is left behind when it grows.
    pub fn spread(self, streams: usize) -> Vec<Self> {
        let further = (1..streams).map(|number| Self {
            stream: further_stream(&self.stream, number),
            ..self.clone()
        });
        let further: Vec<Self> = further.collect();
        std::iter::once(self).chain(further).collect()
    }
}

/// The key of a further stream. What is in braces chooses its slot in a cluster; these words were
/// searched for: with the default name, as many streams as masters, 2 to 6 or 8, are one on each of
/// them where the slots are shared out evenly and in order, as `redis-cli --cluster create` does.
fn further_stream(first: &str, number: usize) -> String {
    format!("{first}:{{{number}seg}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: usize = 16384;

    fn keys(streams: usize) -> Vec<String> {
        let names = StreamNames {
            stream: "oncelog:events".to_owned(),
            group: "g".to_owned(),
            consumer: "c".to_owned(),
        };
        let spread = names.spread(streams).into_iter();
        spread.map(|names| names.stream).collect()
    }

    /// CRC-16/XMODEM of what is in braces, or of the whole key.
    /// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>
    fn slot(key: &str) -> usize {
        let tag = key
            .split_once('{')
            .and_then(|(_, rest)| Some(rest.split_once('}')?.0));
        let crc = tag.unwrap_or(key).bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
            })
        });
        usize::from(crc) % SLOTS
    }

    #[test]
    fn the_first_stream_keeps_its_name_and_more_streams_have_all_of_fewer() {
        assert_eq!(keys(1), ["oncelog:events"]);
        assert_eq!(
            keys(3),
            [
                "oncelog:events",
                "oncelog:events:{1seg}",
                "oncelog:events:{2seg}"
            ]
        );
        assert_eq!(keys(64)[..20], keys(20));
    }

    #[test]
    fn as_many_streams_as_masters_are_one_on_each() {
        assert_eq!(slot("foo{hash_tag}"), 2515, "as CLUSTER KEYSLOT says");
        for masters in [2, 3, 4, 5, 6, 8] {
            let mut taken: Vec<usize> = keys(masters)
                .iter()
                .map(|key| slot(key) * masters / SLOTS)
                .collect();
            taken.sort_unstable();
            assert_eq!(taken, (0..masters).collect::<Vec<_>>(), "{masters} masters");
        }
    }
}
