//! How much of the time somebody on the host waits for a resource.

use std::fmt;
use std::str::FromStr;

use super::Host;

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A CPU.
    Cpu,
    /// Memory: reclaim, refaults, swap.
    Memory,
    /// Input and output.
    Io,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Io];

    /// Its name, as the kernel has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }
}

/// Hundredths of a percent, which is what the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u64);

impl FromStr for Percent {
    type Err = ();

    /// Reads `40` or `2.5`; what is below a hundredth is left out.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return Err(());
        }
        let whole: u64 = whole.parse().map_err(drop)?;
        let part: u64 = format!("{part}0")[..2].parse().map_err(drop)?;
        let all = whole.checked_mul(100).and_then(|whole| whole.checked_add(part));
        all.map(Self).ok_or(())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

/// A pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressure {
    /// In so much of the last 10 s somebody waited for it.
    Stall(Percent),
    /// This kernel does not tell. So many tasks run or are in an uninterruptible sleep for each CPU, on an average of the
    /// last minute; one is 100%.
    Load(Percent),
}

impl Pressure {
    /// The number alone.
    #[must_use]
    pub fn percent(self) -> Percent {
        match self {
            Self::Stall(percent) | Self::Load(percent) => percent,
        }
    }
}

impl Host {
    /// The pressure on a resource now; `None` where neither it nor the load can be read.
    ///
    /// # Kernel
    ///
    /// `some avg10` in /proc/pressure, since Linux 4.20; it is renewed every 2 s (`PSI_FREQ`, kernel/sched/psi.c), and a
    /// kernel that was started with `psi=0` fails to open it. /proc/loadavg.
    #[must_use]
    pub fn pressure(&self, of: Resource) -> Option<Pressure> {
        let text = |path: &str| Some(String::from_utf8_lossy(&self.read_proc_piece(path)?).into_owned());
        let stall = || some_avg10(&text(&format!("pressure/{}", of.word()))?);
        let load = || {
            let Percent(load) = text("loadavg")?.split(' ').next()?.parse().ok()?; // it always is a number
            let cpus = cpus(&String::from_utf8_lossy(&self.read_proc("stat")?));
            Some(Percent((load * 100).checked_div(cpus)?))
        };
        stall()
            .map(Pressure::Stall)
            .or_else(|| load().map(Pressure::Load))
    }
}

fn some_avg10(text: &str) -> Option<Percent> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let number = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    number.parse().ok() // not the kernel's word
}

/// How many CPUs are online: each has a line in /proc/stat.
fn cpus(stat: &str) -> u64 {
    let lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    lines.skip(1).fold(0, |count, _| count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_seconds_of_some_are_read_and_nothing_else() {
        for (text, percent) in [
            (
                "some avg10=12.34 avg60=0.39 avg300=6.17 total=12\nfull avg10=99.00 avg60=0 avg300=0 total=0\n",
                Some(1234),
            ),
            ("full avg10=1.00 avg60=0.00\n", None),
            ("some avg60=1.00\n", None),
            ("some avg10=NaN avg60=0\n", None),
            ("", None),
        ] {
            assert_eq!(some_avg10(text), percent.map(Percent), "{text:?}");
        }
    }

    #[test]
    fn percents_are_read_to_the_hundredth() {
        for (text, hundredths) in [
            ("40", Some(4000)),
            ("2.5", Some(250)),
            ("0.07", Some(7)),
            ("1.239", Some(123)),
            ("", None),
            (".5", None),
            ("5.", None),
            ("-1", None),
            ("1e3", None),
            ("99999999999999999999", None),
            ("184467440737095517", None),
        ] {
            assert_eq!(text.parse().ok(), hundredths.map(Percent), "{text:?}");
        }
        assert_eq!(Percent(1207).to_string(), "12.07%");
    }

    #[test]
    fn cpus_are_counted_without_the_sum_of_all() {
        assert_eq!(cpus("cpu  1 2\ncpu0 1 2\ncpu1 0 0\nintr 7\n"), 2);
        assert_eq!(cpus("intr 7\n"), 0);
    }

    fn host_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join("proc").join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let host = Host::made_up(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn the_load_is_taken_where_the_kernel_tells_no_pressure() {
        let load = ("loadavg", "1.50 0.50 0.10 1/99 4711\n");
        let stat = ("stat", "cpu  1\ncpu0 1\ncpu1 1\ncpu2 1\nintr 0\n");
        let (_root, host) = host_with(&[load, stat]);
        assert_eq!(host.pressure(Resource::Io), Some(Pressure::Load(Percent(5000))));
        let (_root, host) = host_with(&[load, stat, ("pressure/io", "some avg10=7.00 avg60=0 total=1\n")]);
        assert_eq!(host.pressure(Resource::Io), Some(Pressure::Stall(Percent(700))));
        let (_root, host) = host_with(&[stat]);
        assert_eq!(host.pressure(Resource::Cpu), None);
    }
}
