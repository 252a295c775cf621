//! `#[derive(Zeroable)]` for [`tenzor-memory`](https://docs.rs/tenzor-memory), which exports it with its feature `derive`.
//!
//! The derive of bytemuck, whose trait it is, writes paths into bytemuck, which a program would have to depend on. This one depends on nothing.

use std::iter;

use proc_macro::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};

/// Says of a struct that it may be all zero bytes, where each of its fields may.
///
/// Where `tenzor_memory` goes by another path, `#[zeroable(crate = "…")]` beside it says which: `"tenzor::memory"`.
#[proc_macro_derive(Zeroable, attributes(zeroable))]
pub fn zeroable(item: TokenStream) -> TokenStream {
    match Struct::parse(item) {
        Ok(item) => item.implement(),
        Err(what) => text(&format!("::core::compile_error! {{ {what:?} }}")),
    }
}

/// The parts of a struct.
struct Struct {
    /// The crate that has the trait.
    path: TokenStream,
    name: TokenTree,
    /// With bounds, without defaults.
    parameters: Vec<Vec<TokenTree>>,
    /// What stands behind `where`.
    bounds: Vec<TokenTree>,
    /// The types of the fields.
    fields: Vec<Vec<TokenTree>>,
}

impl Struct {
    fn parse(item: TokenStream) -> Result<Self, &'static str> {
        let incomplete = "a struct was expected";
        let mut tokens: Vec<TokenTree> = item.into_iter().collect();
        let attributes: Vec<TokenTree> = tokens.drain(..attributes(&tokens)).collect();
        let mut path = text("::tenzor_memory");
        for attribute in &attributes {
            if let Some(said) = path_in(attribute)? {
                path = said;
            }
        }
        let start = visibility(&tokens);
        if tokens.get(start).is_none_or(|token| token.to_string() != "struct") {
            return Err("`Zeroable` is derived for structs; elsewhere, implement it by hand");
        }
        let name = tokens.get(start + 1).ok_or(incomplete)?.clone();
        let mut rest = tokens.split_off(start + 2);
        let mut parameters = Vec::new();
        if rest.first().is_some_and(|token| is(token, '<')) {
            let end = depths(&rest).position(|depth| depth == 0).ok_or(incomplete)?;
            let behind = rest.split_off(end + 1);
            parameters = split(&rest[1..end], ',').map(|parameter| first(&parameter, '=')).collect();
            rest = behind;
        }
        rest.pop_if(|token| is(token, ';'));
        let is_tuple = rest.first().is_some_and(|token| is_group(token, Delimiter::Parenthesis));
        let body = if is_tuple { Some(rest.remove(0)) } else { rest.pop_if(|token| is_group(token, Delimiter::Brace)) };
        let fields = match body {
            Some(TokenTree::Group(body)) => {
                let tokens: Vec<TokenTree> = body.stream().into_iter().collect();
                split(&tokens, ',').map(|field| type_of(&field, is_tuple)).collect()
            }
            _ => Vec::new(),
        };
        // Without the word itself.
        let bounds = rest.split_off(rest.len().min(1));
        Ok(Self { path, name, parameters, bounds, fields })
    }

    fn implement(self) -> TokenStream {
        let mut zeroable = self.path;
        zeroable.extend(text(":: Zeroable"));
        let arguments = self.parameters.iter().map(|parameter| argument(parameter));
        let mut code = text("#[automatically_derived] #[allow(unsafe_code)]");
        code.extend([word("unsafe"), word("impl"), sign('<')]);
        code.extend(self.parameters.iter().flat_map(|parameter| parameter.iter().cloned().chain([sign(',')])));
        code.extend([sign('>')]);
        code.extend(zeroable.clone());
        code.extend([word("for"), self.name, sign('<')]);
        code.extend(arguments.flat_map(|argument| argument.into_iter().chain([sign(',')])));
        code.extend([sign('>'), word("where")]);
        code.extend(split(&self.bounds, ',').flat_map(|bound| bound.into_iter().chain([sign(',')])));
        for field in self.fields {
            code.extend(field);
            code.extend([sign(':')]);
            code.extend(zeroable.clone());
            code.extend([sign(',')]);
        }
        code.extend([TokenTree::from(Group::new(Delimiter::Brace, TokenStream::new()))]);
        code
    }
}

/// The path that an attribute's brackets say, `zeroable(crate = "…")`, if it is this attribute.
fn path_in(brackets: &TokenTree) -> Result<Option<TokenStream>, &'static str> {
    let TokenTree::Group(brackets) = brackets else { return Ok(None) };
    let tokens: Vec<TokenTree> = brackets.stream().into_iter().collect();
    let [TokenTree::Ident(name), TokenTree::Group(said)] = &tokens[..] else { return Ok(None) };
    if name.to_string() != "zeroable" {
        return Ok(None);
    }
    let said: Vec<String> = said.stream().into_iter().map(|token| token.to_string()).collect();
    let path = match &said[..] {
        [name, equals, path] if name == "crate" && equals == "=" => path.strip_prefix('"'),
        _ => None,
    };
    let path = path.and_then(|path| path.strip_suffix('"')?.parse().ok());
    path.map(Some).ok_or("`zeroable(crate = \"path\")` was expected")
}

/// How many tokens are attributes.
fn attributes(tokens: &[TokenTree]) -> usize {
    2 * tokens.chunks(2).take_while(|pair| is(&pair[0], '#')).count()
}

/// How many tokens are a `pub`, with what stands behind it in parentheses.
fn visibility(tokens: &[TokenTree]) -> usize {
    match tokens {
        [TokenTree::Ident(word), TokenTree::Group(within), ..] if word.to_string() == "pub" => {
            let words: Vec<String> = within.stream().into_iter().map(|token| token.to_string()).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // Otherwise it is the type of a tuple struct's field.
            if matches!(words[..], ["crate" | "self" | "super"] | ["in", ..]) { 2 } else { 1 }
        }
        [TokenTree::Ident(word), ..] if word.to_string() == "pub" => 1,
        // What a macro was given as one.
        [TokenTree::Group(given), ..] if given.delimiter() == Delimiter::None => {
            let word = given.stream().into_iter().next();
            usize::from(word.is_none_or(|word| word.to_string() == "pub"))
        }
        _ => 0,
    }
}

/// The type of a field.
fn type_of(field: &[TokenTree], is_tuple: bool) -> Vec<TokenTree> {
    let field = &field[attributes(field)..];
    let field = &field[visibility(field)..];
    // Without the name and the colon.
    let name = if is_tuple { 0 } else { 2 };
    field[name.min(field.len())..].to_vec()
}

/// The name of a parameter.
fn argument(parameter: &[TokenTree]) -> Vec<TokenTree> {
    let parameter = &parameter[attributes(parameter)..];
    let name = match parameter {
        [first, ..] if is(first, '\'') => 0..2,
        [first, ..] if first.to_string() == "const" => 1..2,
        _ => 0..1,
    };
    parameter.get(name).unwrap_or_default().to_vec()
}

/// Behind each token, how many angle brackets are open.
fn depths(tokens: &[TokenTree]) -> impl Iterator<Item = usize> {
    let mut depth = 0_usize;
    let before = iter::once(None).chain(tokens.iter().map(Some));
    tokens.iter().zip(before).map(move |(token, before)| {
        if is(token, '<') {
            depth += 1;
        // Not that of an arrow.
        } else if is(token, '>') && !before.is_some_and(|before| is(before, '-')) {
            depth = depth.saturating_sub(1);
        }
        depth
    })
}

/// What stands between such signs outside of angle brackets, if anything does.
fn split(tokens: &[TokenTree], at: char) -> impl Iterator<Item = Vec<TokenTree>> {
    let mut parts = vec![Vec::new()];
    for (token, depth) in tokens.iter().zip(depths(tokens)) {
        match parts.last_mut() {
            Some(part) if depth > 0 || !is(token, at) => part.push(token.clone()),
            _ => parts.push(Vec::new()),
        }
    }
    parts.into_iter().filter(|part| !part.is_empty())
}

/// What stands before such a sign.
fn first(tokens: &[TokenTree], before: char) -> Vec<TokenTree> {
    split(tokens, before).next().unwrap_or_default()
}

fn is(token: &TokenTree, sign: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn is_group(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

fn sign(sign: char) -> TokenTree {
    Punct::new(sign, Spacing::Alone).into()
}

fn word(word: &str) -> TokenTree {
    Ident::new(word, Span::call_site()).into()
}

/// What is written here, and so can be read.
fn text(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}
