//! A reader of Rust sources that answers one question: what does each file take from which other?
//!
//! It works on tokens, so that a path inside a macro counts like any other, and it follows `use`, aliases,
//! globs and re-exports to the file that defines the name. `mod x;` and a re-export of a module's own child are
//! declarations and no imports. Code under `#[cfg(test)]` is left out. Methods are not followed: the caller
//! one has its type from somewhere, and that is an import already.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Sources by their path, such as `src/prove/mod.rs`.
pub(crate) type Sources = BTreeMap<String, String>;

/// A path as it is written: `crate::os::nft`, in segments.
type Path = Vec<String>;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Module(usize),
    Item { file: String, name: String },
    Outside(Path),
}

/// A module: a file's own, or one that stands inside a file.
#[derive(Default)]
struct Module {
    file: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    defined: BTreeSet<String>,
    uses: BTreeMap<String, Path>,
    globs: Vec<Path>,
    /// Every path that the code names, `use` included.
    named: BTreeSet<Path>,
    /// Methods that are called.
    called: BTreeSet<String>,
}

/// What one file takes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Names, by the file that defines them.
    pub(crate) imports: BTreeMap<String, BTreeSet<String>>,
    /// Paths that lead out of the crate: `std::time::Instant::now`.
    pub(crate) outside: BTreeSet<String>,
    /// Methods that are called.
    pub(crate) called: BTreeSet<String>,
}

/// Reads the crate whose root file is `root`.
pub(crate) fn read(sources: &Sources, root: &str) -> BTreeMap<String, File> {
    let mut reader = Reader {
        sources,
        modules: Vec::new(),
    };
    reader.file(root, None);
    let mut files: BTreeMap<String, File> = BTreeMap::new();
    for (at, module) in reader.modules.iter().enumerate() {
        let file = files.entry(module.file.clone()).or_default();
        file.called.extend(module.called.iter().cloned());
        for path in &module.named {
            match reader.resolve(at, path, &mut BTreeSet::new()) {
                Some(Target::Item { file: from, name }) if from != module.file => {
                    file.imports.entry(from).or_default().insert(name);
                }
                Some(Target::Outside(path)) => {
                    file.outside.insert(path.join("::"));
                }
                Some(Target::Item { .. } | Target::Module(_)) | None => {}
            }
        }
    }
    files
}

struct Reader<'a> {
    sources: &'a Sources,
    modules: Vec<Module>,
}

impl Reader<'_> {
    /// Reads a file and what it declares. `mod x;` of `a/mod.rs` and of a root is `a/x.rs`; that of `a/b.rs` is
    /// `a/b/x.rs`.
    fn file(&mut self, path: &str, parent: Option<usize>) -> usize {
        let at = self.modules.len();
        self.modules.push(Module {
            file: path.to_owned(),
            parent,
            ..Module::default()
        });
        let text = &self.sources[path];
        let tokens: TokenStream = text
            .parse()
            .unwrap_or_else(|e| panic!("{path} is no Rust: {e}"));
        let stem = path.strip_suffix(".rs").unwrap();
        let (folder, name) = stem.rsplit_once('/').unwrap();
        let below = match (parent, name) {
            (None, _) | (_, "mod") => folder.to_owned(),
            _ => stem.to_owned(),
        };
        self.walk(at, tokens, true, &below);
        at
    }

    /// `outer`: whether `tokens` are the items of the module itself.
    fn walk(&mut self, at: usize, tokens: TokenStream, outer: bool, below: &str) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut i = 0;
        let mut elsewhere = false;
        while i < tokens.len() {
            match &tokens[i] {
                TokenTree::Punct(p) if p.as_char() == '#' => {
                    let Some((attribute, next)) = attribute(&tokens, i) else {
                        i += 1;
                        continue;
                    };
                    i = next;
                    if is_test(&attribute) {
                        i = after_item(&tokens, i);
                    } else if word(attribute.first()) == "path" {
                        elsewhere = true;
                    } else if word(attribute.first()) == "serde" {
                        self.serde(at, &attribute);
                    } else if word(attribute.first()) != "doc" {
                        self.walk(at, attribute.into_iter().collect(), false, below);
                    }
                }
                // A lifetime.
                TokenTree::Punct(p) if p.as_char() == '\'' => i += 2,
                TokenTree::Ident(ident) => {
                    let ident = ident.to_string();
                    let before = i.checked_sub(1).map(|n| &tokens[n]);
                    match ident.as_str() {
                        "use" if !is_punct(tokens.get(i + 1), '<') => {
                            let end = (i..tokens.len())
                                .find(|&n| is_punct(tokens.get(n), ';'))
                                .unwrap_or(tokens.len());
                            let public = matches!(before, Some(TokenTree::Ident(w)) if w == "pub")
                                || matches!(before, Some(TokenTree::Group(_)));
                            self.uses(at, &tokens[i + 1..end], Vec::new(), public);
                            i = end;
                        }
                        "mod" if matches!(tokens.get(i + 1), Some(TokenTree::Ident(_))) => {
                            let name = word(tokens.get(i + 1));
                            self.declare(at, &name, tokens.get(i + 2), below, elsewhere);
                            elsewhere = false;
                            i += 3;
                        }
                        "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" => {
                            if outer {
                                self.modules[at].defined.insert(word(tokens.get(i + 1)));
                            }
                            i += 1;
                        }
                        "macro_rules" => {
                            self.modules[at].defined.insert(word(tokens.get(i + 2)));
                            i += 3;
                        }
                        _ => {
                            let (path, next) = path(&tokens, i);
                            if is_method(&tokens, i) {
                                self.modules[at].called.insert(ident);
                            } else {
                                self.modules[at].named.insert(path);
                            }
                            i = next;
                        }
                    }
                }
                TokenTree::Group(group) => {
                    self.walk(at, group.stream(), false, below);
                    i += 1;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => i += 1,
            }
        }
    }

    fn declare(
        &mut self,
        at: usize,
        name: &str,
        body: Option<&TokenTree>,
        below: &str,
        elsewhere: bool,
    ) {
        let child = match body {
            Some(TokenTree::Group(group)) => {
                let child = self.modules.len();
                self.modules.push(Module {
                    file: self.modules[at].file.clone(),
                    parent: Some(at),
                    ..Module::default()
                });
                self.walk(child, group.stream(), true, &format!("{below}/{name}"));
                child
            }
            // A file that another crate shares by `#[path]` is no part of this one.
            _ if elsewhere => return,
            _ => {
                let ways = [
                    format!("{below}/{name}.rs"),
                    format!("{below}/{name}/mod.rs"),
                ];
                let path = ways.iter().find(|p| self.sources.contains_key(*p));
                let path = path.unwrap_or_else(|| panic!("neither of {ways:?} is there"));
                self.file(path, Some(at))
            }
        };
        self.modules[at].children.insert(name.to_owned(), child);
    }

    /// One tree of a `use`, behind `prefix`.
    fn uses(&mut self, at: usize, tree: &[TokenTree], mut prefix: Path, public: bool) {
        let mut i = 0;
        while i < tree.len() {
            match &tree[i] {
                TokenTree::Ident(ident) if *ident == "as" => {
                    return self.bind(at, word(tree.get(i + 1)), prefix, public);
                }
                TokenTree::Ident(ident) if *ident == "self" && !prefix.is_empty() => {}
                TokenTree::Ident(ident) => prefix.push(ident.to_string()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for tree in inner.split(|t| is_punct(Some(t), ',')) {
                        if !tree.is_empty() {
                            self.uses(at, tree, prefix.clone(), public);
                        }
                    }
                    return;
                }
                TokenTree::Punct(p) if p.as_char() == '*' => {
                    return self.modules[at].globs.push(prefix);
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            i += 1;
        }
        let name = prefix.last().cloned().unwrap_or_default();
        self.bind(at, name, prefix, public);
    }

    fn bind(&mut self, at: usize, name: String, path: Path, public: bool) {
        let module = &mut self.modules[at];
        let first = path.iter().find(|s| *s != "self");
        let own_child = first.is_some_and(|s| module.children.contains_key(s));
        if !(public && own_child) {
            module.named.insert(path.clone());
        }
        module.uses.insert(name, path);
    }

    /// `#[serde(with = "super::rfc3339")]` names a path in a string.
    fn serde(&mut self, at: usize, attribute: &[TokenTree]) {
        for token in attribute {
            match token {
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    self.serde(at, &inner);
                }
                TokenTree::Literal(literal) => {
                    let text = literal.to_string();
                    let segments = text.trim_matches('"').split("::").map(str::to_owned);
                    self.modules[at].named.insert(segments.collect());
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// Where `path`, written in the module `at`, leads; none for names that are neither in scope nor a crate's.
    fn resolve(
        &self,
        at: usize,
        path: &[String],
        seen: &mut BTreeSet<(usize, Path)>,
    ) -> Option<Target> {
        if !seen.insert((at, path.to_vec())) {
            return None;
        }
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Some(Target::Module(0)),
            "self" => Some(Target::Module(at)),
            "super" => self.modules[at].parent.map(Target::Module),
            name => self.look_up(at, name, seen),
        };
        let Some(mut target) = start else {
            return (!rest.is_empty() && first.starts_with(char::is_lowercase))
                .then(|| Target::Outside(path.to_vec()));
        };
        for segment in rest {
            target = match target {
                Target::Module(m) if segment == "super" => Target::Module(self.modules[m].parent?),
                Target::Module(m) => self.look_up(m, segment, seen)?,
                Target::Item { .. } => break,
                Target::Outside(mut path) => {
                    path.push(segment.clone());
                    Target::Outside(path)
                }
            };
        }
        Some(target)
    }

    fn look_up(&self, at: usize, name: &str, seen: &mut BTreeSet<(usize, Path)>) -> Option<Target> {
        let module = &self.modules[at];
        if module.defined.contains(name) {
            let file = module.file.clone();
            let name = name.to_owned();
            return Some(Target::Item { file, name });
        }
        if let Some(child) = module.children.get(name) {
            return Some(Target::Module(*child));
        }
        if let Some(path) = module.uses.get(name) {
            return self.resolve(at, path, seen);
        }
        module
            .globs
            .iter()
            .find_map(|glob| match self.resolve(at, glob, seen)? {
                Target::Module(m) => self.look_up(m, name, seen),
                Target::Item { .. } | Target::Outside(_) => None,
            })
    }
}

/// The tokens of the attribute at `i`, and what follows it.
fn attribute(tokens: &[TokenTree], i: usize) -> Option<(Vec<TokenTree>, usize)> {
    let at = i + 1 + usize::from(is_punct(tokens.get(i + 1), '!'));
    match tokens.get(at) {
        Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Bracket => {
            Some((g.stream().into_iter().collect(), at + 1))
        }
        _ => None,
    }
}

/// `cfg(test)`, `cfg(all(test, …))`, `test`; not `cfg(not(test))`.
fn is_test(attribute: &[TokenTree]) -> bool {
    let text: String = attribute.iter().map(ToString::to_string).collect();
    text == "test" || text.starts_with("cfg(test") || text.starts_with("cfg(all(test")
}

/// Behind the item, field, arm or statement that begins at `i`.
fn after_item(tokens: &[TokenTree], mut i: usize) -> usize {
    while is_punct(tokens.get(i), '#') {
        match attribute(tokens, i) {
            Some((_, next)) => i = next,
            None => break,
        }
    }
    let words: Vec<String> = tokens[i..]
        .iter()
        .filter(|t| !matches!(t, TokenTree::Group(_)))
        .map(ToString::to_string)
        .take(3)
        .collect();
    let first = words
        .iter()
        .find(|w| *w != "pub")
        .map_or("", String::as_str);
    let item = [
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "let",
        "macro_rules",
        "mod",
        "static",
        "struct",
        "trait",
        "type",
        "unsafe",
        "use",
    ];
    let to_semicolon = ["let", "static", "type", "use"].contains(&first)
        || first == "const" && !words.iter().any(|w| w == "fn");
    let is_item = item.contains(&first);
    while i < tokens.len() {
        let token = tokens.get(i);
        let body = matches!(token, Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Brace);
        i += 1;
        if is_punct(token, ';') || body && !to_semicolon || !is_item && is_punct(token, ',') {
            break;
        }
    }
    i
}

/// The path that begins at `i`, and what follows it.
fn path(tokens: &[TokenTree], mut i: usize) -> (Path, usize) {
    let mut out = vec![word(tokens.get(i))];
    i += 1;
    while is_punct(tokens.get(i), ':')
        && is_punct(tokens.get(i + 1), ':')
        && matches!(tokens.get(i + 2), Some(TokenTree::Ident(_)))
    {
        out.push(word(tokens.get(i + 2)));
        i += 3;
    }
    (out, i)
}

/// Whether the word at `i` stands behind one dot: `.len()`, not `..len`.
fn is_method(tokens: &[TokenTree], i: usize) -> bool {
    let dot = |n: Option<usize>| match n.and_then(|n| tokens.get(n)) {
        Some(TokenTree::Punct(p)) if p.as_char() == '.' => Some(p.spacing()),
        _ => None,
    };
    dot(i.checked_sub(1)).is_some() && dot(i.checked_sub(2)) != Some(Spacing::Joint)
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == c)
}

fn word(token: Option<&TokenTree>) -> String {
    token.map(ToString::to_string).unwrap_or_default()
}

/// Whether a source says `unsafe` in its code; comments and strings do not count.
pub(crate) fn says_unsafe(source: &str) -> bool {
    fn within(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => ident == "unsafe",
            TokenTree::Group(group) => within(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        })
    }
    source.parse().is_ok_and(within)
}
