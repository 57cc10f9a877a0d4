//! The records of one docker container, in the shape in which docker 20.10 and runc 1.1 write them.

use std::fs;
use std::io;
use std::path::Path;

use crate::layout::Layout;

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Its processes, the first one first.
    pub(crate) pids: Vec<String>,
    /// When the first one started, in ticks since the boot.
    pub(crate) start: String,
}

// Broken into lines behind commas, which no record is.
const STATE: &str = include_str!("state.json");
const BUNDLE: &str = include_str!("config.json");
const CONFIG: &str = include_str!("config.v2.json");
const HOST_CONFIG: &str = include_str!("hostconfig.json");

/// The calls that docker's default filter lists, which is most of a state.json.
const CALLS: usize = 357;
/// The v1 hierarchies that runc uses, by their keys in a state.json, and where they are mounted.
const CONTROLLERS: [(&str, &str); 9] = [
    ("blkio", "blkio"),
    ("cpu", "cpu"),
    ("cpuacct", "cpuacct"),
    ("cpuset", "cpuset"),
    ("devices", "devices"),
    ("freezer", "freezer"),
    ("memory", "memory"),
    ("name=systemd", "systemd"),
    ("pids", "pids"),
];

/// What is the same in all records.
#[derive(Debug)]
pub(crate) struct Shape {
    layout: Layout,
    parent: String,
    state: String,
    bundle: String,
    config: String,
    host_config: String,
}

impl Shape {
    /// That of containers below the cgroup `parent`.
    pub(crate) fn new(layout: Layout, parent: &str) -> Self {
        let call = |number| format!(r#"{{"name":"call_{number:05}","action":4,"errnoRet":null,"args":[]}}"#);
        let calls: Vec<String> = (0..CALLS).map(call).collect();
        let names: Vec<String> = (0..CALLS).map(|number| format!("\"call_{number}\"")).collect();
        let common = |text: &str| text.replace('\n', "").replace("@PARENT@", parent);
        Self {
            layout,
            parent: parent.to_owned(),
            state: common(STATE).replace("@CALLS@", &calls.join(",")),
            bundle: common(BUNDLE).replace("@NAMES@", &names.join(",")),
            config: common(CONFIG),
            host_config: common(HOST_CONFIG),
        }
    }

    /// Writes the records of one container to the places where docker keeps them.
    pub(crate) fn write(&self, root: &Path, member: &Member) -> io::Result<()> {
        let id = &member.id;
        let own = |text: &str| {
            text.replace("@PATHS@", &self.cgroup_paths(id))
                .replace("@ID@", id)
                .replace("@SHORT@", &id[..12])
                .replace("@NAME@", &member.name)
                .replace("@PID@", &member.pids[0])
                .replace("@START@", &member.start)
        };
        let state = root.join("run/docker/runtime-runc/moby").join(id);
        fs::create_dir_all(&state)?;
        fs::write(state.join("state.json"), own(&self.state))?;

        let bundle = root
            .join("run/containerd/io.containerd.runtime.v2.task/moby")
            .join(id);
        fs::create_dir_all(bundle.join("rootfs"))?;
        for (name, text) in [
            ("config.json", own(&self.bundle)),
            ("init.pid", member.pids[0].clone()),
            (
                "options.json",
                r#"{"binary_name":"runc","root":"/var/run/docker/runtime-runc"}"#.to_owned(),
            ),
            ("runtime", "runc".to_owned()),
            ("shim-binary-path", "/usr/bin/containerd-shim-runc-v2".to_owned()),
            ("address", format!("unix:///run/containerd/s/{id}")),
            ("log.json", String::new()),
        ] {
            fs::write(bundle.join(name), text)?;
        }

        let own_dir = root.join("var/lib/docker/containers").join(id);
        fs::create_dir_all(own_dir.join("mounts"))?;
        fs::create_dir_all(own_dir.join("checkpoints"))?;
        for (name, text) in [
            ("config.v2.json", own(&self.config)),
            ("hostconfig.json", own(&self.host_config)),
            ("hostname", format!("{}\n", &id[..12])),
            (
                "hosts",
                format!("127.0.0.1\tlocalhost\n172.18.0.7\t{}\n", &id[..12]),
            ),
            ("resolv.conf", "nameserver 127.0.0.11\n".to_owned()),
            ("resolv.conf.hash", "0".repeat(71)),
            (&format!("{id}-json.log"), String::new()),
        ] {
            fs::write(own_dir.join(name), text)?;
        }
        Ok(())
    }

    fn cgroup_paths(&self, id: &str) -> String {
        let parent = &self.parent;
        let entry = |key: &str, mount: &str| format!(r#""{key}":"/sys/fs/cgroup{mount}{parent}/{id}""#);
        let v1 = CONTROLLERS
            .map(|(key, mount)| entry(key, &format!("/{mount}")))
            .join(",");
        match self.layout {
            Layout::V1 => format!("{{{v1}}}"),
            Layout::Hybrid => format!("{{{},{v1}}}", entry("", "/unified")),
            Layout::V2 => format!("{{{}}}", entry("", "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member {
            id: "8d96".repeat(16),
            name: "web".to_owned(),
            pids: vec!["4711".to_owned()],
            start: "87982".to_owned(),
        }
    }

    fn written(test: &str, layout: Layout) -> (String, String) {
        let root = std::env::temp_dir().join(format!("xtask-{test}-{}", std::process::id()));
        Shape::new(layout, "/p").write(&root, &member()).unwrap();
        let read =
            |dir: &str, name: &str| fs::read_to_string(root.join(dir).join(member().id).join(name)).unwrap();
        let texts = (
            read("run/docker/runtime-runc/moby", "state.json"),
            read("var/lib/docker/containers", "config.v2.json"),
        );
        fs::remove_dir_all(&root).unwrap();
        texts
    }

    #[test]
    fn records_are_whole_and_of_the_size_that_docker_writes() {
        let (state, config) = written("size", Layout::Hybrid);
        for text in [&state, &config] {
            assert!(!text.contains(['@', '\n']), "{text}");
            assert_eq!(text.matches('{').count(), text.matches('}').count());
            assert_eq!(text.matches('"').count() % 2, 0);
        }
        assert!((24_000..40_000).contains(&state.len()), "{}", state.len());
        assert!((4_000..5_000).contains(&config.len()), "{}", config.len());
        assert!(config.contains(r#""Name":"/web""#) && config.contains(r#""Pid":4711,"#));
    }

    #[test]
    fn each_layout_has_its_own_cgroup_paths() {
        let id = member().id;
        let freezer = format!(r#""freezer":"/sys/fs/cgroup/freezer/p/{id}""#);
        let unified = format!(r#""":"/sys/fs/cgroup/unified/p/{id}""#);
        let alone = format!(r#""cgroup_paths":{{"":"/sys/fs/cgroup/p/{id}"}}"#);
        for (layout, parts) in [
            (Layout::V1, [true, false, false]),
            (Layout::Hybrid, [true, true, false]),
            (Layout::V2, [false, false, true]),
        ] {
            let (state, _) = written("paths", layout);
            let found = [&freezer, &unified, &alone].map(|part| state.contains(part.as_str()));
            assert_eq!(found, parts, "{layout}");
        }
    }
}
