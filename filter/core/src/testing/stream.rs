//! A stream of the Redis in memory, and the log's two scripts, written out in Rust.

/// Milliseconds, and a number.
pub type Id = (u64, u64);
/// An entry's fields: names and values in turn.
pub type Fields = Vec<Vec<u8>>;

/// What redis' scripts call "ahead of the clock" and "of our form" is theirs to say; this says it once more.
#[derive(Clone, Default)]
pub struct Stream {
    pub entries: Vec<(Id, Fields)>,
    /// The id that was given out last: what is added has to be larger.
    pub last: Id,
}

/// What reading brings.
pub struct Page {
    pub first: Option<Id>,
    pub last: Option<Id>,
    pub seen: Option<Id>,
    pub more: bool,
    pub values: Vec<Vec<u8>>,
}

pub const EXHAUSTED: &str = "ERR The stream has exhausted the last possible ID, unable to add more items";

impl Stream {
    /// `XADD key *`
    pub fn add(&mut self, now: u64, fields: Fields) -> Result<Id, &'static str> {
        let id = match self.last {
            (u64::MAX, u64::MAX) => return Err(EXHAUSTED),
            (millis, _) if now > millis => (now, 0),
            (millis, u64::MAX) => (millis + 1, 0),
            (millis, number) => (millis, number + 1),
        };
        self.add_as(id, fields);
        Ok(id)
    }

    /// `XADD key id`
    pub fn add_as(&mut self, id: Id, fields: Fields) {
        assert!(id > self.last, "Redis refuses it");
        self.last = id;
        self.entries.push((id, fields));
    }

    /// The script that reads.
    pub fn read(&self, now: u64, after: Id, margin: u64) -> Page {
        let ids = || self.entries.iter().map(|(id, _)| *id);
        let mut page = Page {
            first: ids().next(),
            last: ids().next_back(),
            seen: None,
            more: false,
            values: Vec::new(),
        };
        let in_time = self.entries.iter().filter(|((millis, _), _)| *millis <= now + margin);
        for (index, (id, fields)) in in_time.filter(|(id, _)| *id > after).enumerate() {
            if index > 0 && index % 256 == 0 && (page.values.len() >= 768 || index == 16 * 256) {
                page.more = true;
                break;
            }
            page.seen = Some(*id);
            page.values.extend(value(fields).cloned());
        }
        page
    }

    /// The script that writes: the last id that was given out, and whether the stream was put right.
    pub fn write(&mut self, now: u64, margin: u64, most: usize, values: &[Vec<u8>]) -> (Option<Id>, bool) {
        let is_ahead = |id: &Id| id.0 > now + margin;
        let mut left = values.iter();
        let mut newest = None;
        let mut wrong = self.entries.last().is_some_and(|(id, _)| is_ahead(id));
        while !wrong && let Some(value) = left.clone().next() {
            match self.add(now, entry(value)) {
                Ok(id) => {
                    left.next();
                    newest = Some(id);
                    wrong = is_ahead(&id);
                }
                Err(_) => wrong = true,
            }
        }
        if wrong {
            let before = std::mem::take(self);
            let (late, good): (Vec<_>, Vec<_>) = before
                .entries
                .into_iter()
                .filter(|(_, fields)| value(fields).is_some())
                .partition(|(id, _)| is_ahead(id));
            let late: Vec<_> = late.into_iter().map(|(_, fields)| fields).collect();
            let kept = good.into_iter().rev().take(most).collect::<Vec<_>>();
            kept.into_iter().rev().for_each(|(id, fields)| self.add_as(id, fields));
            for fields in late.into_iter().chain(left.map(|value| entry(value))) {
                newest = Some(self.add(now, fields).unwrap());
            }
        }
        let surplus = self.entries.len().saturating_sub(most);
        self.entries.drain(..surplus);
        (newest, wrong)
    }
}

fn entry(value: &[u8]) -> Fields {
    vec![b"e".to_vec(), value.to_vec()]
}

/// What an entry of ours says.
fn value(fields: &Fields) -> Option<&Vec<u8>> {
    match fields.as_slice() {
        [name, value] if name == b"e" && value.len() <= 64 => Some(value),
        _ => None,
    }
}
