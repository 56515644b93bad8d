//! Shows the progress of long tasks: bars or spinners on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::sync::Mutex;
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
            bytes: Mutex::default(),
            done: false,
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
    bytes: Mutex<Bytes>,
    done: bool,
}

#[derive(Default)]
struct Bytes {
    total: u64,
    received: u64,
    announced_percent: u64,
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
        self.bar.set_style(style(
            "{spinner:.cyan} {prefix:<30} {elapsed:>4} [{bar:30.cyan/dim}] {bytes}/{total_bytes} {bytes_per_sec}",
        ));
        self.bar.set_length(total);
        self.bar.set_position(received);
        *self.lock() = Bytes { total, received, announced_percent: percent(received, total) };
    }

    /// Turns the spinner into a bar of `total` items.
    pub fn expect_count(&self, total: u64) {
        self.bar.set_style(style(
            "{spinner:.cyan} {prefix:<30} {elapsed:>4} [{bar:30.cyan/dim}] {pos}/{len} {per_sec}",
        ));
        self.bar.set_length(total);
        *self.lock() = Bytes { total, received: 0, announced_percent: 0 };
    }

    /// Sets the number of completed items.
    pub fn reached(&self, count: u64) {
        let received = self.lock().received;
        self.received(count.saturating_sub(received));
    }

    /// Adds to the number of received bytes or completed items.
    pub fn received(&self, count: u64) {
        self.bar.inc(count);
        let mut bytes = self.lock();
        bytes.received += count;
        let now = percent(bytes.received, bytes.total);
        if !self.terminal && now >= bytes.announced_percent + PLAIN_STEP_PERCENT {
            bytes.announced_percent = now - now % PLAIN_STEP_PERCENT;
            eprintln!("  {}: {} %", self.name, bytes.announced_percent);
        }
    }

    /// Finishes the task. `result` is a short text about it and may be empty.
    pub fn finish(mut self, result: &str) {
        self.done = true;
        let seconds = self.started.elapsed().as_secs();
        if self.terminal {
            self.bar.set_style(style("{prefix:<32} {wide_msg}"));
            self.bar.set_prefix(format!("{} {}", console::style("✓").green(), self.name));
            self.bar.finish_with_message(format!("{seconds:>4}s {result}"));
        } else {
            eprintln!("✓ {} ({seconds} s) {result}", self.name);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bytes> {
        self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.done {
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

fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants").progress_chars("━╸─")
}
