//! Damage to files, drawn from a generator that gives the same for the same number everywhere.

/// splitmix64: small, and good enough to choose damage by.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, 0 where there is none.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub(crate) fn pick<'p, T>(&mut self, from: &'p [T]) -> Option<&'p T> {
        from.get(self.below(from.len()))
    }
}

/// What damage is made of besides chance: the host's own words.
#[derive(Debug, Default)]
pub(crate) struct Words {
    /// Words of one kind each, IDs, process numbers, start times, paths: one of them can stand for another.
    pub(crate) kinds: Vec<Vec<String>>,
    /// The texts of other files.
    pub(crate) texts: Vec<Vec<u8>>,
}

/// Values that programs stumble over.
const VALUES: [&str; 24] = [
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"/\"",
    "\"..\"",
    "\"/..\"",
    "\"../../../../etc/shadow\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "1e308",
    "1.5",
    "2147483647",
    "2147483648",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
];

/// `text` with one to three damages, and what they are.
pub(crate) fn damaged(text: &[u8], words: &Words, dice: &mut Dice) -> (Vec<u8>, String) {
    let mut text = text.to_vec();
    let mut told = Vec::new();
    // Most often one: each has to lead into the code that it is for.
    let count = [1, 1, 1, 2, 3][dice.below(5)];
    for _ in 0..count {
        told.push(damage(&mut text, words, dice));
    }
    (text, told.join(", "))
}

fn damage(text: &mut Vec<u8>, words: &Words, dice: &mut Dice) -> &'static str {
    match dice.below(14) {
        0 => flip(text, dice),
        1 => {
            text.truncate(dice.below(text.len()));
            "cut short"
        }
        2 => {
            let from = dice.below(text.len());
            let to = (from + 1 + dice.below(40)).min(text.len());
            text.drain(from.min(to)..to);
            "a piece less"
        }
        3 => splice(text, words, dice),
        4 => {
            if let Some(other) = dice.pick(&words.texts) {
                text.clone_from(other);
            }
            "another file's text"
        }
        5 => {
            let at = dice.below(text.len() + 1);
            let bytes: &[&[u8]] = &[
                b"\0",
                b"\n",
                b"\r",
                b"\x1b",
                b"\x7f",
                b"\xff",
                b"\xe2\x80\xae",
                b"\\u0000",
                b"\"",
                b"\\",
                b"/",
                b"/..",
                b":",
            ];
            let some = *dice.pick(bytes).unwrap();
            text.splice(at..at, some.iter().copied());
            "a control byte"
        }
        6 => {
            let runs = runs(text, |byte| byte.is_ascii_digit());
            if let Some((from, to)) = dice.pick(&runs).copied() {
                let number = *dice.pick(&VALUES[11..]).unwrap();
                text.splice(from..to, number.bytes());
            }
            "a number"
        }
        7 => replace_value(text, dice),
        8 => double_key(text, dice),
        9 => {
            let open = *dice.pick(&[&b"["[..], b"{\"a\":", b"\"", b"("]).unwrap();
            let deep = [10, 127, 129, 20_000][dice.below(4)];
            let at = dice.below(text.len() + 1);
            text.splice(at..at, open.repeat(deep));
            "deep nesting"
        }
        10 => {
            let at = dice.below(text.len() + 1);
            let long = vec![b"a/0 "[dice.below(4)]; [256, 4097, 100_000][dice.below(3)]];
            text.splice(at..at, long);
            "a long piece"
        }
        _ => exchange(text, words, dice),
    }
}

fn flip(text: &mut [u8], dice: &mut Dice) -> &'static str {
    for _ in 0..=dice.below(4) {
        let at = dice.below(text.len());
        if let Some(byte) = text.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
    }
    "bits"
}

fn splice(text: &mut Vec<u8>, words: &Words, dice: &mut Dice) -> &'static str {
    if let Some(other) = dice.pick(&words.texts) {
        let from = dice.below(other.len());
        let to = (from + dice.below(200)).min(other.len());
        let at = dice.below(text.len() + 1);
        let until = (at + dice.below(2) * (to - from)).min(text.len());
        text.splice(at..until, other[from..to].iter().copied());
    }
    "a piece of another file"
}

/// Everywhere, or in one place, one of the host's words for another of its kind.
fn exchange(text: &mut Vec<u8>, words: &Words, dice: &mut Dice) -> &'static str {
    let Some(kind) = dice.pick(&words.kinds) else {
        return flip(text, dice);
    };
    let present: Vec<&String> = kind
        .iter()
        .filter(|word| find(text, word.as_bytes()).is_some())
        .collect();
    let (Some(&from), Some(to)) = (dice.pick(&present), dice.pick(kind)) else {
        return flip(text, dice);
    };
    let everywhere = dice.below(2) == 0;
    let mut done = 0;
    while let Some(at) = find(&text[done..], from.as_bytes()) {
        let at = done + at;
        text.splice(at..at + from.len(), to.bytes());
        done = at + to.len();
        if !everywhere {
            break;
        }
    }
    "another's word"
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len().max(1)).position(|window| window == word)
}

/// The value of a key of JSON, or a line's after `=`, made another.
fn replace_value(text: &mut Vec<u8>, dice: &mut Dice) -> &'static str {
    let values = values(text);
    if let Some((_, from, to)) = dice.pick(&values).copied() {
        text.splice(from..to, dice.pick(&VALUES).unwrap().bytes());
    }
    "another value"
}

fn double_key(text: &mut Vec<u8>, dice: &mut Dice) -> &'static str {
    let values = values(text);
    if let Some((key, from, to)) = dice.pick(&values).copied() {
        let mut again = text[key..from].to_vec();
        match dice.below(2) {
            0 => again.extend(dice.pick(&VALUES).unwrap().bytes()),
            _ => again.extend_from_slice(&text[from..to]),
        }
        let separator = if text.contains(&b'{') { b',' } else { b'\n' };
        match dice.below(2) {
            0 => {
                again.push(separator);
                text.splice(key..key, again);
            }
            _ => {
                again.insert(0, separator);
                text.splice(to..to, again);
            }
        }
    }
    "a key twice"
}

/// Where the keys and values of JSON, or of lines with `=`, are: the key's start, the value's start and end. Only
/// roughly: it is for damage.
fn values(text: &[u8]) -> Vec<(usize, usize, usize)> {
    let (mark, ends): (u8, &[u8]) = if text.contains(&b'{') {
        (b':', b",}]")
    } else {
        (b'=', b"\n")
    };
    let text = &text[..text.len().min(16_384)];
    let marks = text.iter().enumerate().filter(|(_, byte)| **byte == mark);
    let found = marks.filter_map(|(at, _)| {
        let key = match mark {
            b':' if text.get(at.wrapping_sub(1)) == Some(&b'"') => {
                text[..at - 1].iter().rposition(|&byte| byte == b'"')?
            }
            b':' => return None,
            _ => text[..at]
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |end| end + 1),
        };
        let rest = &text[at + 1..];
        let length = match rest.first()? {
            b'"' => rest[1..].iter().position(|&byte| byte == b'"')? + 2,
            b'{' | b'[' => closing(rest)?,
            _ => rest
                .iter()
                .position(|byte| ends.contains(byte))
                .unwrap_or(rest.len()),
        };
        Some((key, at + 1, at + 1 + length))
    });
    found.collect()
}

/// The length of what begins with a bracket, until it is closed. What is not closed soon is not looked at: it may have
/// been nested as deep as it is long.
fn closing(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.iter().take(4096).enumerate() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

fn runs(text: &[u8], fits: impl Fn(u8) -> bool) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut from = None;
    for (at, &byte) in text.iter().enumerate() {
        match (fits(byte), from) {
            (true, None) => from = Some(at),
            (false, Some(start)) => {
                runs.push((start, at));
                from = None;
            }
            _ => {}
        }
    }
    runs.extend(from.map(|start| (start, text.len())));
    runs
}

#[test]
fn the_same_number_gives_the_same_damage() {
    let words = Words {
        kinds: vec![vec!["one".to_owned(), "two".to_owned()]],
        texts: vec![b"another text".to_vec()],
    };
    let text = br#"{"id":"one","n":7,"deep":{"a":[1,2]}}"#;
    let mut different = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let first = damaged(text, &words, &mut Dice::new(seed));
        assert_eq!(first, damaged(text, &words, &mut Dice::new(seed)));
        different.insert(first.0);
    }
    assert!(
        different.len() > 200,
        "only {} different damages",
        different.len()
    );
}

#[test]
fn keys_and_values_are_found() {
    let text = br#"{"id":"one","n":7,"deep":{"a":[1,2]}}"#;
    let found: Vec<_> = values(text)
        .into_iter()
        .map(|(key, from, to)| (&text[key..from], &text[from..to]))
        .collect();
    let expected: [(&[u8], &[u8]); 4] = [
        (b"\"id\":", b"\"one\""),
        (b"\"n\":", b"7"),
        (b"\"deep\":", b"{\"a\":[1,2]}"),
        (b"\"a\":", b"[1,2]"),
    ];
    assert_eq!(found, expected);
    assert_eq!(values(b"NAME=a\nLEADER=7\n"), [(0, 5, 6), (7, 14, 15)]);
}
