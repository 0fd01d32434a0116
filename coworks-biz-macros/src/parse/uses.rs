//! Which names an expression uses: what may be the outputs of tasks in it.
//!
//! Variables of patterns and closures shadow. In the tokens of a macro that are
//! no expressions, a word after `.` or `::`, or before `=`, `:`, `!` or `(`, is
//! no use; an inline `{name}` of a format string is one.

use std::collections::HashSet;

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Block, Expr, ExprAsync, ExprAwait, ExprCall, ExprClosure, ExprField, ExprForLoop, ExprIf, ExprLet,
    ExprMatch, ExprPath, ExprWhile, Member,
};
use syn::{Ident, Item, Lit, LitStr, Local, Macro, Pat, PatIdent, Token};

use super::plan::{Branch, Test};

/// The names that are used freely in an expression, each once, in the order they are used.
pub fn of(expression: &Expr) -> Vec<Ident> {
    let mut uses = Uses::default();
    uses.visit_expr(expression);
    uses.names
}

/// The `prep.a` in expressions, as their two words.
pub fn fields<'a>(expressions: impl IntoIterator<Item = &'a Expr>) -> Vec<(Ident, Ident)> {
    let mut uses = Uses::default();
    expressions.into_iter().for_each(|expression| uses.visit_expr(expression));
    uses.fields
}

/// The same, of several expressions.
pub fn of_all<'a>(expressions: impl IntoIterator<Item = &'a Expr>) -> Vec<Ident> {
    let mut uses = Uses::default();
    expressions.into_iter().for_each(|expression| uses.visit_expr(expression));
    uses.names
}

/// What a call of a function takes.
pub fn of_call(call: &ExprCall) -> Vec<Ident> {
    let mut uses = Uses::default();
    uses.visit_expr_call(call);
    uses.names
}

/// What a branch looks at: its scrutinee and the guards of its arms, or its conditions.
pub fn of_branch(branch: &Branch) -> Vec<Ident> {
    let mut uses = Uses::default();
    branch.scrutinee.iter().for_each(|scrutinee| uses.visit_expr(scrutinee));
    for arm in &branch.arms {
        uses.scope(|uses| match &arm.test {
            Test::Pattern(pattern, guard) => {
                uses.shadow(pattern);
                guard.iter().for_each(|guard| uses.visit_expr(guard));
            }
            Test::Condition(condition) => uses.visit_expr(condition),
            Test::Otherwise => {}
        });
    }
    uses.names
}

/// What stands in expressions beside names: calls of functions by one word, and `.await`s.
#[derive(Default)]
pub struct Asides {
    pub calls: Vec<Ident>,
    pub awaits: Vec<Span>,
}

/// Finds them, except where they are code of their own: in closures and `async` blocks.
pub fn asides<'a>(expressions: impl IntoIterator<Item = &'a Expr>) -> Asides {
    let mut asides = Asides::default();
    expressions.into_iter().for_each(|expression| asides.visit_expr(expression));
    asides
}

impl<'a> Visit<'a> for Asides {
    fn visit_expr_call(&mut self, node: &'a ExprCall) {
        if let Expr::Path(path) = &*node.func {
            self.calls.extend(path.path.get_ident().cloned());
        }
        visit::visit_expr_call(self, node);
    }
    fn visit_expr_await(&mut self, node: &'a ExprAwait) {
        self.awaits.push(node.await_token.span);
        visit::visit_expr_await(self, node);
    }
    fn visit_expr_closure(&mut self, _: &'a ExprClosure) {}
    fn visit_expr_async(&mut self, _: &'a ExprAsync) {}
    fn visit_item(&mut self, _: &'a Item) {}
}

/// Whether an expression surely gives references into a value.
pub fn is_lent(expression: &Expr) -> bool {
    const LENDING: [&str; 11] = [
        "as_ref", "as_mut", "as_deref", "as_slice", "as_str", "as_bytes", "iter", "iter_mut", "lines",
        "keys", "values",
    ];
    match expression {
        Expr::Reference(_) => true,
        Expr::MethodCall(call) => LENDING.iter().any(|method| call.method == method) && call.args.is_empty(),
        _ => false,
    }
}

/// The variables of a pattern, each once.
pub fn variables(pattern: &Pat) -> Vec<Ident> {
    let mut variables = Variables::default();
    variables.visit_pat(pattern);
    let mut seen = HashSet::new();
    // In `A(v) | B(v)` there is one `v`.
    variables.0.retain(|variable| seen.insert(variable.clone()));
    variables.0
}

/// The variables of the patterns of `let` in a condition.
pub fn variables_of_condition(condition: &Expr) -> Vec<Ident> {
    struct Lets(Vec<Ident>);
    impl<'a> Visit<'a> for Lets {
        fn visit_expr_let(&mut self, node: &'a ExprLet) {
            self.0.extend(variables(&node.pat));
        }
        // A condition inside the condition has variables of its own.
        fn visit_expr_closure(&mut self, _: &'a ExprClosure) {}
        fn visit_block(&mut self, _: &'a Block) {}
    }
    let mut lets = Lets(Vec::new());
    lets.visit_expr(condition);
    lets.0
}

#[derive(Default)]
struct Variables(Vec<Ident>);

impl<'a> Visit<'a> for Variables {
    fn visit_pat_ident(&mut self, node: &'a PatIdent) {
        // Alone, `None` is a variant, and `LIMIT` a constant.
        let alone = node.by_ref.is_none() && node.mutability.is_none() && node.subpat.is_none();
        if !(alone && node.ident.to_string().starts_with(char::is_uppercase)) {
            self.0.push(node.ident.clone());
        }
        visit::visit_pat_ident(self, node);
    }

    fn visit_expr(&mut self, _: &'a Expr) {}
}

#[derive(Default)]
struct Uses {
    names: Vec<Ident>,
    seen: HashSet<String>,
    fields: Vec<(Ident, Ident)>,
    /// The variables in scope, the innermost last.
    shadows: Vec<String>,
}

impl Uses {
    fn name(&mut self, name: &Ident) {
        let word = name.to_string();
        if !self.shadows.contains(&word) && self.seen.insert(word) {
            self.names.push(name.clone());
        }
    }

    fn shadow(&mut self, pattern: &Pat) {
        self.shadows.extend(variables(pattern).iter().map(Ident::to_string));
    }

    /// What is visited inside may shadow; afterwards that is over.
    fn scope(&mut self, inside: impl FnOnce(&mut Self)) {
        let depth = self.shadows.len();
        inside(self);
        self.shadows.truncate(depth);
    }

    fn macro_tokens(&mut self, of: &str, tokens: TokenStream) {
        if of == "json" {
            return self.json(tokens);
        }
        let captures = FORMATS.contains(&of);
        let arguments = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(tokens.clone());
        let Ok(arguments) = arguments else { return self.tokens(tokens, captures) };
        for argument in &arguments {
            match argument {
                // `name = value` names an argument of its own.
                Expr::Assign(named) => self.visit_expr(&named.right),
                Expr::Lit(literal) => match &literal.lit {
                    Lit::Str(text) if captures => self.scope(|uses| {
                        uses.shadows.extend(arguments.iter().filter_map(named));
                        uses.captures(text);
                    }),
                    _ => {}
                },
                argument => self.visit_expr(argument),
            }
        }
    }

    /// What `json!` takes: an object, a list, or an expression.
    fn json(&mut self, tokens: TokenStream) {
        let mut all = tokens.clone().into_iter();
        match (all.next(), all.next()) {
            (Some(TokenTree::Group(group)), None) if group.delimiter() != Delimiter::Parenthesis => {
                let object = group.delimiter() == Delimiter::Brace;
                for item in split(group.stream(), ',') {
                    // `"key": value`; a key is no use of anything but what is in parentheses.
                    match object.then(|| split(item.clone(), ':')) {
                        Some(pair) if pair.len() > 1 => {
                            let key = pair[0].clone().into_iter().count();
                            // A word alone is a key, as everywhere; one in parentheses is a value.
                            if key > 1
                                || matches!(pair[0].clone().into_iter().next(), Some(TokenTree::Group(_)))
                            {
                                self.tokens(pair[0].clone(), false);
                            }
                            let key = key + 1;
                            self.json(item.into_iter().skip(key).collect());
                        }
                        _ => self.json(item),
                    }
                }
            }
            _ => match syn::parse2::<Expr>(tokens.clone()) {
                Ok(expression) => self.visit_expr(&expression),
                Err(_) => self.tokens(tokens, false),
            },
        }
    }

    fn tokens(&mut self, tokens: TokenStream, captures: bool) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let is = |index: Option<usize>, punct: char| matches!(index.and_then(|i| tokens.get(i)), Some(TokenTree::Punct(p)) if p.as_char() == punct);
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => {
                    let mac = match (index.checked_sub(2).map(|i| &tokens[i]), is(index.checked_sub(1), '!'))
                    {
                        (Some(TokenTree::Ident(name)), true) => Some(name.to_string()),
                        _ => None,
                    };
                    match mac {
                        Some(name) => self.macro_tokens(&name, group.stream()),
                        None => self.tokens(group.stream(), captures),
                    }
                }
                TokenTree::Ident(name) => {
                    let (last, before) = (index.checked_sub(1), index.checked_sub(2));
                    let field = is(last, '.') && !is(before, '.');
                    let path = is(last, ':') && is(before, ':');
                    let (next, after) = (Some(index + 1), Some(index + 2));
                    let key = is(next, ':') || is(next, '!') && !is(after, '=');
                    let named = is(next, '=') && !is(after, '=');
                    let called = matches!(
                        tokens.get(index + 1),
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis
                    );
                    if !(field || path || key || named || called) {
                        self.name(name);
                    }
                }
                TokenTree::Literal(literal) if captures => {
                    if let Ok(text) = syn::parse2::<LitStr>(TokenTree::from(literal.clone()).into()) {
                        self.captures(&text);
                    }
                }
                TokenTree::Literal(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// The `{name}` and `{name:..}` of a format string.
    fn captures(&mut self, format: &LitStr) {
        let text = format.value().replace("{{", "");
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        for piece in text.split('{').skip(1) {
            let Some((inside, _)) = piece.split_once('}') else { continue };
            let (word, spec) = inside.split_once(':').unwrap_or((inside, ""));
            // `{value:>width$.precision$}`
            let counts = spec
                .split('$')
                .rev()
                .skip(1)
                .map(|before| before.rsplit(|c| !is_word(c)).next().unwrap_or_default());
            for word in std::iter::once(word).chain(counts) {
                if let Ok(name) = syn::parse_str::<Ident>(word.trim()) {
                    self.name(&Ident::new(&name.to_string(), format.span()));
                }
            }
        }
    }
}

/// The macros whose texts capture names.
const FORMATS: [&str; 29] = [
    "format",
    "format_args",
    "print",
    "println",
    "eprint",
    "eprintln",
    "write",
    "writeln",
    "panic",
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "todo",
    "unimplemented",
    "unreachable",
    "info",
    "warn",
    "error",
    "debug",
    "trace",
    "event",
    "span",
    "anyhow",
    "bail",
    "ensure",
    "eyre",
];

/// The pieces between these punctuation marks.
fn split(tokens: TokenStream, mark: char) -> Vec<TokenStream> {
    let mut pieces = vec![TokenStream::new()];
    for token in tokens {
        match (&token, pieces.last_mut()) {
            (TokenTree::Punct(punct), _) if punct.as_char() == mark => pieces.push(TokenStream::new()),
            (_, Some(piece)) => piece.extend([token]),
            (_, None) => {}
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The name of an argument `name = value`.
fn named(argument: &Expr) -> Option<String> {
    match argument {
        Expr::Assign(named) => match &*named.left {
            Expr::Path(path) => path.path.get_ident().map(Ident::to_string),
            _ => None,
        },
        _ => None,
    }
}

impl<'a> Visit<'a> for Uses {
    fn visit_expr_path(&mut self, node: &'a ExprPath) {
        if let (None, Some(name)) = (&node.qself, node.path.get_ident()) {
            self.name(name);
        }
    }

    fn visit_expr_field(&mut self, node: &'a ExprField) {
        if let (Expr::Path(path), Member::Named(member)) = (&*node.base, &node.member)
            && let Some(base) = path.path.get_ident()
            && !self.shadows.contains(&base.to_string())
        {
            self.fields.push((base.clone(), member.clone()));
        }
        visit::visit_expr_field(self, node);
    }

    fn visit_expr_call(&mut self, node: &'a ExprCall) {
        // What is called is a function; the output of a task is none.
        if !matches!(&*node.func, Expr::Path(_)) {
            self.visit_expr(&node.func);
        }
        node.args.iter().for_each(|argument| self.visit_expr(argument));
    }

    fn visit_expr_closure(&mut self, node: &'a ExprClosure) {
        self.scope(|uses| {
            node.inputs.iter().for_each(|input| uses.shadow(input));
            uses.visit_expr(&node.body);
        });
    }

    fn visit_expr_match(&mut self, node: &'a ExprMatch) {
        self.visit_expr(&node.expr);
        for arm in &node.arms {
            self.scope(|uses| {
                uses.shadow(&arm.pat);
                visit::visit_arm(uses, arm);
            });
        }
    }

    fn visit_expr_let(&mut self, node: &'a ExprLet) {
        self.visit_expr(&node.expr);
        self.shadow(&node.pat);
    }

    fn visit_expr_if(&mut self, node: &'a ExprIf) {
        self.scope(|uses| {
            uses.visit_expr(&node.cond);
            uses.visit_block(&node.then_branch);
        });
        if let Some((_, otherwise)) = &node.else_branch {
            self.visit_expr(otherwise);
        }
    }

    fn visit_expr_while(&mut self, node: &'a ExprWhile) {
        self.scope(|uses| visit::visit_expr_while(uses, node));
    }

    fn visit_expr_for_loop(&mut self, node: &'a ExprForLoop) {
        self.visit_expr(&node.expr);
        self.scope(|uses| {
            uses.shadow(&node.pat);
            uses.visit_block(&node.body);
        });
    }

    fn visit_block(&mut self, node: &'a Block) {
        self.scope(|uses| visit::visit_block(uses, node));
    }

    fn visit_local(&mut self, node: &'a Local) {
        visit::visit_local(self, node);
        self.shadow(&node.pat);
    }

    fn visit_macro(&mut self, node: &'a Macro) {
        let name = node.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        self.macro_tokens(&name, node.tokens.clone());
    }

    // An item captures nothing.
    fn visit_item(&mut self, _: &'a Item) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(expression: &str) -> Vec<String> {
        of(&syn::parse_str(expression).unwrap()).iter().map(Ident::to_string).collect()
    }

    #[test]
    fn names_are_uses_and_fields_paths_and_callees_are_not() {
        assert_eq!(uses("f(x, y.z, a::b, g(w), Foo { k: v, short })"), ["x", "y", "w", "v", "short"]);
        assert_eq!(uses("x.iter().map(double).sum::<u32>() + x.len()"), ["x", "double"]);
    }

    #[test]
    fn patterns_and_closures_shadow() {
        assert_eq!(uses("list.iter().map(|x| x.n + y)"), ["list", "y"]);
        assert_eq!(uses("match a { Some(b) if b > c => b, None => d }"), ["a", "c", "d"]);
        assert_eq!(uses("if let Some(v) = a && v > b { v } else { v }"), ["a", "b", "v"]);
        assert_eq!(uses("{ let x = x; x + y }"), ["x", "y"]);
        assert_eq!(uses("{ let x = 3; x + y }"), ["y"]);
    }

    #[test]
    fn tokens_of_macros_are_read_by_their_neighbours() {
        assert_eq!(
            uses(r#"json!({ "a": x.id, key: y, "n": null, "t": "{z}", "f": format!("{w}") })"#),
            ["x", "y", "null", "w"]
        );
        assert_eq!(uses(r#"format!("{a} {b:?} {{c}} {} {n}", d, n = e)"#), ["a", "b", "d", "e"]);
        assert_eq!(uses("vec![a; b]"), ["a", "b"]);
        assert_eq!(uses("format!(\"{a:>b$.c$} {d:?}\")"), ["a", "c", "b", "d"]);
        assert_eq!(uses("vec![\"{a}\"]"), Vec::<String>::new());
        assert_eq!(
            uses("json!({ \"ids\": list.iter().map(|a| a + b).collect::<Vec<_>>(), (c): [d, {\"e\": f}] })"),
            ["list", "b", "c", "d", "f"]
        );
        assert_eq!(uses("match a { A(b) | C(b) => b, None => c }"), ["a", "c"]);
        assert_eq!(uses("vec![list.iter().map(|v| v.n), v]"), ["list", "v"]);
        assert_eq!(uses("json!({ \"r\": a..b, \"c\": f(g), \"e\": h == i })"), ["a", "b", "g", "h", "i"]);
    }
}
