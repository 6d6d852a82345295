//! One pass over all tasks by a command that root runs by hand: `check`, `apply`, `release`.

use std::thread;

use super::discovery::{News, Survey};
use super::model::Tasks;
use super::task_netns::Wish;

/// What a pass found, and what was taken out of the tasks' namespaces.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    /// The tasks.
    pub tasks: Tasks,
    /// What was taken out.
    pub released: Vec<String>,
}

/// Makes a pass on a thread of its own, which goes into other namespaces and comes back.
#[must_use]
pub fn pass(wish: Wish) -> Pass {
    let look = move || {
        let mut survey = Survey::open()?;
        let mut news = survey.pass(wish, true)?;
        news.troubles.append(&mut news.warnings);
        Ok::<_, std::io::Error>((survey.tasks().cloned().collect(), news))
    };
    let done = thread::Builder::new()
        .name("tasks".to_owned())
        .spawn(look)
        .and_then(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(std::io::Error::other("it ended in a panic")))
        });
    match done {
        Ok((
            running,
            News {
                released, troubles, ..
            },
        )) => Pass {
            tasks: Tasks {
                running,
                unknown: troubles,
            },
            released,
        },
        Err(error) => Pass {
            tasks: Tasks {
                running: Vec::new(),
                unknown: vec![format!("look for the network namespaces of tasks: {error}")],
            },
            released: Vec::new(),
        },
    }
}
