//! Shows the progress of long tasks: bars or spinners on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How many percent of a download one plain line stands for.
const PLAIN_STEP_PERCENT: u64 = 25;

/// The display that all tasks of a command share.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    terminal: bool,
}

impl Progress {
    /// Shows bars if standard error is a terminal, otherwise lines.
    pub fn new() -> Self {
        Self { bars: MultiProgress::new(), terminal: std::io::stderr().is_terminal() }
    }

    /// A task that is shown until it is finished or dropped.
    pub fn task(&self, name: impl Into<String>) -> Task {
        let name = name.into();
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner:.cyan} {prefix:<30} {elapsed:>4} {wide_msg:.dim}"));
        bar.set_prefix(name.clone());
        if self.terminal {
            bar.enable_steady_tick(Duration::from_millis(100));
        } else {
            eprintln!("  {name} …");
        }
        Task {
            bar,
            name,
            started: Instant::now(),
            terminal: self.terminal,
            announced_percent: AtomicU64::default(),
        }
    }

    /// Prints a line above the bars.
    pub fn note(&self, line: impl AsRef<str>) {
        self.bars.suspend(|| eprintln!("{}", line.as_ref()));
    }
}

/// One long task.
pub struct Task {
    bar: ProgressBar,
    name: String,
    started: Instant,
    terminal: bool,
    announced_percent: AtomicU64,
}

impl Task {
    /// Shows what the task is doing now. Visible only on a terminal.
    pub fn detail(&self, text: &str) {
        self.bar.set_message(text.trim().to_owned());
    }

    /// Prints a note about the task, on a terminal or not.
    pub fn note(&self, text: &str) {
        let text = format!("  {}: {text}", self.name);
        if self.terminal {
            self.bar.println(text);
        } else {
            eprintln!("{text}");
        }
    }

    /// Turns the spinner into a bar of bytes, of which `received` are already there.
    pub fn expect_bytes(&self, total: u64, received: u64) {
        self.expect("{bytes}/{total_bytes} {bytes_per_sec}", total, received);
    }

    /// Turns the spinner into a bar of `total` items.
    pub fn expect_count(&self, total: u64) {
        self.expect("{pos}/{len} {per_sec}", total, 0);
    }

    fn expect(&self, numbers: &str, total: u64, received: u64) {
        let bar = "{spinner:.cyan} {prefix:<30} {elapsed:>4} [{bar:30.cyan/dim}] ";
        self.bar.set_style(style(&format!("{bar}{numbers}")));
        self.bar.set_length(total);
        self.bar.set_position(received);
        self.announced_percent.store(self.percent(), Ordering::Relaxed);
    }

    /// Sets the number of completed items.
    pub fn reached(&self, count: u64) {
        self.bar.set_position(count);
        self.announce();
    }

    /// Adds to the number of received bytes.
    pub fn received(&self, count: u64) {
        self.bar.inc(count);
        self.announce();
    }

    fn announce(&self) {
        let now = self.percent();
        if !self.terminal && now >= self.announced_percent.load(Ordering::Relaxed) + PLAIN_STEP_PERCENT {
            let step = now - now % PLAIN_STEP_PERCENT;
            self.announced_percent.store(step, Ordering::Relaxed);
            eprintln!("  {}: {step} %", self.name);
        }
    }

    fn percent(&self) -> u64 {
        let total = self.bar.length().unwrap_or_default();
        self.bar.position().saturating_mul(100).checked_div(total).unwrap_or_default()
    }

    /// Finishes the task. `result` is a short text about it and may be empty.
    pub fn finish(self, result: &str) {
        let seconds = self.started.elapsed().as_secs();
        if self.terminal {
            self.bar.set_style(style("{prefix:<32} {wide_msg}"));
            self.bar.set_prefix(format!("{} {}", console::style("✓").green(), self.name));
            self.bar.finish_with_message(format!("{seconds:>4}s {result}"));
        } else {
            self.bar.finish();
            eprintln!("✓ {} ({seconds} s) {result}", self.name);
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.bar.is_finished() {
            return;
        }
        if self.terminal {
            self.bar.set_style(style("{prefix:<32} {wide_msg}"));
            self.bar.set_prefix(format!("{} {}", console::style("✗").red(), self.name));
            self.bar.abandon_with_message("failed");
        } else {
            eprintln!("✗ {} failed", self.name);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants").progress_chars("━╸─")
}
