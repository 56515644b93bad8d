//! `EVAL` with a real Lua 5.1, so that scripts run unchanged.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value, Variadic};

use super::commands;
use super::keys::Keys;
use crate::resp::Reply;

/// A Lua interpreter that calls back into one server's keys.
pub struct Scripts {
    lua: Lua,
    compiled: RefCell<BTreeMap<Vec<u8>, Function>>,
}

impl Scripts {
    /// # Panics
    /// If Lua cannot be set up.
    pub fn new(keys: &Rc<RefCell<Keys>>) -> Self {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default()).expect("Lua starts");
        let table = lua.create_table().expect("a table");
        for (name, protected) in [("call", false), ("pcall", true)] {
            let keys = keys.clone();
            let call =
                lua.create_function(move |lua, args: Variadic<Value>| call(lua, &keys, &args, protected));
            table.set(name, call.expect("a function")).expect("set");
        }
        for (name, field) in [("error_reply", "err"), ("status_reply", "ok")] {
            let make = lua.create_function(move |lua, text: mlua::String| {
                let reply = lua.create_table()?;
                reply.set(field, text)?;
                Ok(reply)
            });
            table.set(name, make.expect("a function")).expect("set");
        }
        lua.globals().set("redis", table).expect("set");
        Self { lua, compiled: RefCell::default() }
    }

    /// Runs a script atomically.
    pub fn eval(&self, text: &[u8], keys: &[Vec<u8>], args: &[Vec<u8>]) -> Reply {
        match self.try_eval(text, keys, args) {
            Ok(reply) => reply,
            // Like Redis, pass on an error of a command unchanged, and mark that it came from a script.
            Err(error) => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                let line = line.strip_prefix("runtime error: ").unwrap_or(line);
                let kinds = ["WRONGTYPE", "OOM", "READONLY", "MISCONF", "NOREPLICAS", "NOPERM"];
                let known = kinds.iter().any(|kind| line.starts_with(kind));
                Reply::Error(if known || line.starts_with("ERR ") {
                    format!("{line} script")
                } else {
                    format!("ERR Error running script: {line}")
                })
            }
        }
    }

    fn try_eval(&self, text: &[u8], keys: &[Vec<u8>], args: &[Vec<u8>]) -> mlua::Result<Reply> {
        let compiled = self.compiled.borrow().get(text).cloned();
        let function = match compiled {
            Some(function) => function,
            None => {
                let function = self.lua.load(text).set_name("user_script").into_function()?;
                self.compiled.borrow_mut().insert(text.to_vec(), function.clone());
                function
            }
        };
        let list = |items: &[Vec<u8>]| {
            let items: mlua::Result<Vec<_>> = items.iter().map(|item| self.lua.create_string(item)).collect();
            self.lua.create_sequence_from(items?)
        };
        self.lua.globals().set("KEYS", list(keys)?)?;
        self.lua.globals().set("ARGV", list(args)?)?;
        let result: MultiValue = function.call(())?;
        to_reply(result.into_iter().next().unwrap_or(Value::Nil))
    }
}

fn call(lua: &Lua, keys: &Rc<RefCell<Keys>>, args: &[Value], protected: bool) -> mlua::Result<Value> {
    let mut words = Vec::with_capacity(args.len());
    for arg in args {
        words.push(match arg {
            Value::String(text) => text.as_bytes().to_vec(),
            Value::Integer(number) => number.to_string().into_bytes(),
            // Like Lua prints a number: without a fraction if it is an integer.
            Value::Number(number) => number.to_string().into_bytes(),
            _ => {
                let what = "ERR Lua redis lib command arguments must be strings or integers";
                return Err(mlua::Error::runtime(what));
            }
        });
    }
    let name =
        words.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).ok_or_else(|| {
            mlua::Error::runtime("ERR Please specify at least one argument for this redis.call() call")
        })?;
    match commands::call(&mut keys.borrow_mut(), &name, &words) {
        Reply::Error(text) if !protected => Err(mlua::Error::runtime(text)),
        reply => to_lua(lua, &reply),
    }
}

/// Converts Redis' types to Lua's: nil becomes `false`, and a status or an error becomes a table.
fn to_lua(lua: &Lua, reply: &Reply) -> mlua::Result<Value> {
    let named = |field: &str, text: &str| {
        let table = lua.create_table()?;
        table.set(field, text)?;
        Ok(Value::Table(table))
    };
    match reply {
        Reply::Simple(text) => named("ok", text),
        Reply::Error(text) => named("err", text),
        #[expect(clippy::cast_precision_loss, reason = "Lua 5.1 has no other numbers, in Redis neither")]
        Reply::Integer(number) => Ok(Value::Number(*number as f64)),
        Reply::Bulk(bytes) => Ok(Value::String(lua.create_string(bytes)?)),
        Reply::Nil | Reply::NilArray => Ok(Value::Boolean(false)),
        Reply::Array(items) => {
            let table = lua.create_table()?;
            // One by one, because Lua can hold only a limited number of values at once.
            for item in items {
                table.raw_push(to_lua(lua, item)?)?;
            }
            Ok(Value::Table(table))
        }
    }
}

/// Converts Lua's types to Redis': numbers lose their fraction, a list ends at the first nil, `true` is 1 and `false`
/// is nil.
fn to_reply(value: Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Boolean(true) => Reply::Integer(1),
        Value::Integer(number) => Reply::Integer(number),
        #[expect(clippy::cast_possible_truncation, reason = "that is what Redis does")]
        Value::Number(number) => Reply::Integer(number as i64),
        Value::String(text) => Reply::Bulk(text.as_bytes().to_vec()),
        Value::Table(table) => from_table(&table)?,
        _ => Reply::Nil,
    })
}

fn from_table(table: &Table) -> mlua::Result<Reply> {
    if let Some(text) = table.raw_get::<Option<String>>("err")? {
        return Ok(Reply::Error(text));
    }
    if let Some(text) = table.raw_get::<Option<String>>("ok")? {
        return Ok(Reply::Simple(text));
    }
    let mut items = Vec::new();
    for index in 1.. {
        match table.raw_get(index)? {
            Value::Nil => break,
            value => items.push(to_reply(value)?),
        }
    }
    Ok(Reply::Array(items))
}
