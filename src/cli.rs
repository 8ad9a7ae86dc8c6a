//! The command line: arguments, the commands that only print, and exit codes.

use crate::commands::{self, Exit, print};
use crate::config::problem::Problem;
use crate::config::render;
use crate::config::snapshot::Snapshot;
use crate::config::{self, Loaded};
#[cfg(feature = "simulator")]
use crate::demo;
use crate::provider::{ModelName, Target};
use crate::route::settings::Route;
use crate::terminal;
use crate::units;
use clap::{Args, Parser, Subcommand};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

mod key;
mod prices;
mod report;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// An edge gateway for LLM traffic: OpenAI's and Anthropic's APIs in front, every provider behind.
#[derive(Parser)]
#[command(name = "tidegate", version, about, args_conflicts_with_subcommands = true, propagate_version = true)]
#[command(after_help = "Exit codes: 0 fine, 1 bad configuration, 2 bad usage, 3 could not bind or start, 4 could not write the output.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG", default_value = "conf/tidegate.yaml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a configuration (the default command)
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Take the listeners over from the running process, after it was sent SIGQUIT
        #[arg(long)]
        upgrade: bool,
    },
    /// Check a configuration without serving: print its routes, or every problem with its position
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Print the targets of one route, their timeouts, and the treatment of each parameter
        #[arg(long, value_name = "ROUTE")]
        explain: Option<String>,
        /// Exit with 1 if there are warnings
        #[arg(long, conflicts_with = "explain")]
        strict: bool,
    },
    /// Serve the built-in demo: an embedded simulator plays all providers; needs no key and no network
    #[cfg(feature = "simulator")]
    Demo(demo::Demo),
    /// Serve the embedded provider simulator alone
    #[cfg(feature = "simulator")]
    Simulate {
        /// Address to listen on
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3001", value_parser = demo::address)]
        listen: std::net::SocketAddr,
    },
    /// Client keys
    Key {
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Print what the requests of access logs add up to: spend, tokens, errors, times and what caches saved, by group
    Report(report::ReportArgs),
    /// Print the price catalogue: what `price: catalogue` stands for, with the day and the page of each price
    Prices {
        /// Only those of one kind of provider
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
    },
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print headers, errors, metrics, log fields and simulator directives, as Markdown
    Reference,
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run { file: cli.config, upgrade: false }) {
        Command::Run { file, upgrade } => loaded(config::load(&file.config), |loaded| commands::run(loaded, file.config, upgrade)),
        Command::Check { file, explain: None, strict } => loaded(config::load(&file.config), |loaded| check(&loaded, strict)),
        Command::Check { file, explain: Some(route), .. } => loaded(config::load(&file.config), |loaded| explain(&loaded.snapshot, &route)),
        #[cfg(feature = "simulator")]
        Command::Demo(demo) => self::demo(&demo),
        #[cfg(feature = "simulator")]
        Command::Simulate { listen } => demo::simulate(listen),
        Command::Key { command } => key::run(command),
        Command::Report(args) => report::run(args),
        Command::Prices { kind } => prices::run(kind.as_deref()),
        Command::Schema => print(&format!("{:#}\n", config::file::schema())),
        Command::Reference => print(&crate::reference::text()),
    }
    .into()
}

fn loaded(result: Result<Loaded, Vec<Problem>>, go_on: impl FnOnce(Loaded) -> Exit) -> Exit {
    match result {
        Ok(loaded) => go_on(loaded),
        Err(problems) => {
            print_problems(&problems);
            Exit::BadConfiguration
        }
    }
}

/// Prints the routes, the warnings and a summary, or the problems of key files. A gateway runs in spite of those; a check fails.
fn check(loaded: &Loaded, strict: bool) -> Exit {
    if !loaded.key_problems.is_empty() {
        print_problems(&loaded.key_problems);
        return Exit::BadConfiguration;
    }
    let printed = print(&routes(&loaded.snapshot));
    print_problems(&loaded.warnings);
    if strict && !loaded.warnings.is_empty() {
        terminal::message("`--strict` accepts no warnings");
        return Exit::BadConfiguration;
    }
    if printed == Exit::Fine { print(&summary(&loaded.snapshot)) } else { printed }
}

fn explain(snapshot: &Snapshot, route: &str) -> Exit {
    match crate::explain::explain(&snapshot.routes, route) {
        Ok(text) => print(&text),
        Err(why) => {
            terminal::message(why);
            Exit::BadUsage
        }
    }
}

/// Writes problems to stderr.
fn print_problems(problems: &[Problem]) {
    terminal::write_error(&render::render(problems, terminal::is_coloured()));
}

#[cfg(feature = "simulator")]
fn demo(demo: &demo::Demo) -> Exit {
    let is_interactive = terminal::is_interactive();
    let env = |name: &str| demo.variable(name, is_interactive);
    loaded(config::parse(demo::CONFIG, "conf/demo.yaml", &env), |loaded| demo.serve(loaded))
}

/// A one-line summary of a valid configuration.
fn summary(snapshot: &Snapshot) -> String {
    let (teams, keys) = (snapshot.tenants.named_teams().count(), snapshot.tenants.digests.len());
    let counts = [(snapshot.routes.len(), "route"), (snapshot.providers.len(), "provider"), (teams, "team"), (keys, "key")];
    let listen = snapshot.listen.iter().map(|listen| format!("{}{}", listen.address, if listen.tls.is_some() { " (TLS)" } else { "" }));
    format!(
        "ok: {}, listening on {}\n",
        counts.map(|(number, noun)| units::count(number, noun)).join(", "),
        listen.collect::<Vec<_>>().join(", ")
    )
}

/// All routes with their targets.
fn routes(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for route in snapshot.routes.iter() {
        let _infallible = writeln!(text, "{}", route.name);
        targets(&mut text, route);
    }
    text
}

fn targets(text: &mut String, route: &Route) {
    let line = |target: &Target| {
        let (ModelName::Fixed(model) | ModelName::Pattern(model)) = &target.model;
        format!("{}  {model}", target.provider.name)
    };
    for target in &route.targets {
        let _infallible = writeln!(text, "  {}  weight {}", line(target), target.weight);
    }
    for target in &route.fallback {
        let _infallible = writeln!(text, "  {}  fallback", line(target));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn command(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["tidegate"], arguments].concat())
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_command() {
        for arguments in [&["--config", "x.yaml"][..], &["run", "--config", "x.yaml"]] {
            let cli = command(arguments).unwrap();
            let file = match cli.command {
                Some(Command::Run { file, .. }) => file,
                None => cli.config,
                Some(_) => panic!("another command"),
            };
            assert_eq!(file.config, PathBuf::from("x.yaml"));
        }
        assert!(command(&["frobnicate"]).is_err());
        assert!(command(&["key", "new"]).is_err());
        let wrong: &[(&[&str], &str)] = &[
            (&["key", "new", "--team", "t", "--expires", "tomorrow"], "expected a time like 2027-01-01T00:00:00Z"),
            #[cfg(feature = "simulator")]
            (&["simulate", "--listen", "1"], "expected an address and a port, like 127.0.0.1:3000"),
        ];
        for (arguments, told) in wrong {
            let error = command(arguments).err().unwrap().to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!(command(&["key", "new", "--id", "a", "--expires", "2030-01-01T00:00:00Z"]).is_err(), "where would that be written?");
        assert!(command(&["key", "new", "--team", "t", "--expires", "2030-01-01T00:00:00Z"]).is_ok());
        let error = command(&["key", "new", "--id", "a b"]).err().unwrap().to_string();
        assert!(error.contains("contains only letters, digits and"), "{error}");
    }

    #[test]
    fn the_shipped_configurations_are_good_and_printed_without_secrets() {
        let env = |name: &str| name.ends_with("_KEY").then(|| "not-to-be-seen".to_owned());
        let snapshot =
            config::parse(include_str!("../conf/demo.yaml"), "demo", &env).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
        let text = routes(&snapshot);
        for name in ["qwen3-4b", "qwen2-7b-vl", "assistant", "vllm_model", "openai", "together", "xai"] {
            assert!(text.lines().any(|line| line == name), "{name}");
        }
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", "Bearer tg-demo".parse().unwrap());
        assert!(crate::auth::authenticate(&snapshot.tenants, None, &headers, 0).is_ok());
        let example = config::parse(include_str!("../conf/tidegate.yaml"), "conf", &env).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let text = routes(&example.snapshot);
        assert!(text.contains("fallback") && text.contains("weight 9") && !text.contains("not-to-be-seen"), "{text}");
    }
}
