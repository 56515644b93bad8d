//! Child programs that run to their end. Their output is shown as progress, and becomes the error message if they fail.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Task;

/// How many last lines of a failed program the error contains.
const TAIL_LINES: usize = 40;

/// Runs a program to its end. Each line of its output becomes the task's detail.
///
/// # Errors
/// If it cannot be started or exits with a status other than 0. The error contains its last lines.
pub fn run(command: &mut Command, task: &Task) -> Result<()> {
    let shown = describe(command);
    let mut tail = VecDeque::with_capacity(TAIL_LINES);
    let status = each_line(command, |line| {
        if !line.trim().is_empty() {
            task.detail(&console::strip_ansi_codes(line));
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line.trim_end().to_owned());
        }
    })?;
    crate::signals::check()?;
    if !status.success() {
        bail!("`{shown}` failed ({status}); it printed last:\n{}", Vec::from(tail).join("\n"));
    }
    Ok(())
}

/// Runs a program to its end, and calls `each` with every line that it prints on either stream, in this order.
///
/// # Errors
/// If it cannot be started.
pub fn each_line(command: &mut Command, each: impl FnMut(&str)) -> Result<ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    command.stderr(writer.try_clone()?);
    read_lines(command, reader, writer, each)
}

/// Like [`each_line`], but only for standard output. What the program prints on standard error is shown at once.
///
/// # Errors
/// If it cannot be started.
pub fn each_line_of_output(command: &mut Command, each: impl FnMut(&str)) -> Result<ExitStatus> {
    let (reader, writer) = std::io::pipe()?;
    command.stderr(Stdio::inherit());
    read_lines(command, reader, writer, each)
}

fn read_lines(
    command: &mut Command,
    reader: PipeReader,
    writer: PipeWriter,
    mut each: impl FnMut(&str),
) -> Result<ExitStatus> {
    let shown = describe(command);
    command.stdin(Stdio::null()).stdout(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    // The pipe ends only when all of its writers are closed, including those in this process.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        each(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(child.wait()?)
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// If it cannot be started or exits with a status other than 0.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The path of a program on `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

/// The command line as a user would type it.
pub fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failed_program_is_reported_with_what_it_printed_on_both_streams() {
        let task = Progress::new().task("test");
        let error = run(&mut shell("echo one; echo two >&2; exit 3"), &task).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("one") && error.contains("two"), "{error}");
    }

    #[test]
    fn output_is_what_was_written_to_standard_output_only() {
        assert_eq!(output(&mut shell("echo out; echo err >&2")).unwrap(), "out\n");
    }

    #[test]
    fn a_program_that_prints_bytes_that_are_not_text_is_no_error() {
        let task = Progress::new().task("test");
        run(&mut shell("printf '\\377\\n'"), &task).unwrap();
    }

    #[test]
    fn programs_are_found_on_the_path_and_missing_ones_are_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
