//! `a >> [b, c] >> d`: an order of tasks.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{BinOp, Expr, ExprBinary, Ident, Lit, LitStr, Member};

use crate::errors::Errors;

/// An order as it is written.
pub enum Order {
    /// `a`, or `a.call` and `prep.a.call`
    Name(Vec<Ident>),
    /// `[a, b]`
    List(Vec<Order>),
    /// `a >> b`, and `b << a` the other way round.
    Then(Then),
}

pub struct Then {
    pub before: Box<Order>,
    pub after: Box<Order>,
    pub operator: Span,
    pub reversed: bool,
    /// `a >> "label" >> b`
    pub label: Option<LitStr>,
}

impl Order {
    /// Whether this expression orders tasks, rightly or wrongly.
    pub fn is_one(expression: &Expr) -> bool {
        match expression {
            Expr::Binary(binary) => {
                orders(&binary.op) || Self::is_one(&binary.left) || Self::is_one(&binary.right)
            }
            _ => false,
        }
    }

    /// Whether this expression may name tasks, or a list of them.
    pub fn is_operand(expression: &Expr) -> bool {
        match expression {
            Expr::Path(_) | Expr::Field(_) | Expr::Array(_) => true,
            Expr::Paren(inner) => Self::is_operand(&inner.expr),
            Expr::Binary(binary) => Self::is_operand(&binary.left) && Self::is_operand(&binary.right),
            _ => false,
        }
    }

    /// Reads an expression; `None` where something in it is no task.
    pub fn parse(expression: &Expr, errors: &mut Errors) -> Option<Self> {
        match expression {
            Expr::Path(path) if path.qself.is_none() => match path.path.get_ident() {
                Some(name) => Some(Self::Name(vec![name.clone()])),
                None => {
                    errors.at(path, "a task is named by one word; nested functions of this biz are tasks");
                    None
                }
            },
            Expr::Field(_) => match member(expression) {
                Some(names) => Some(Self::Name(names)),
                None => no_task(expression, errors),
            },
            Expr::Array(list) => {
                let operands: Vec<_> = list.elems.iter().map(|item| Self::parse(item, errors)).collect();
                operands.into_iter().collect::<Option<_>>().map(Self::List)
            }
            Expr::Paren(inner) => Self::parse(&inner.expr, errors),
            Expr::Binary(binary) => Self::then(binary, errors),
            Expr::Lit(literal) if matches!(literal.lit, Lit::Str(_)) => {
                errors.at(literal, "a label stands between two tasks: `a >> \"label\" >> b`");
                None
            }
            Expr::Call(call) => {
                errors.at(
                    call,
                    "`>>` orders tasks by their names: `let x = f(..);` in a line of its own names one",
                );
                None
            }
            other => no_task(other, errors),
        }
    }

    fn then(binary: &ExprBinary, errors: &mut Errors) -> Option<Self> {
        // `a >> "label" >> b` is `(a >> "label") >> b`.
        let (left, label) = match &*binary.left {
            Expr::Binary(inner) if orders(&inner.op) && orders(&binary.op) => match &*inner.right {
                Expr::Lit(literal) => match &literal.lit {
                    Lit::Str(label) => (&inner.left, Some(label.clone())),
                    _ => (&binary.left, None),
                },
                _ => (&binary.left, None),
            },
            _ => (&binary.left, None),
        };
        let (first, second) = (Self::parse(left, errors), Self::parse(&binary.right, errors));
        let operator = binary.op.span();
        let (before, after, reversed) = match binary.op {
            BinOp::Shr(_) => (first?, second?, false),
            BinOp::Shl(_) => (second?, first?, true),
            op => {
                let shown = |side: &Expr| quote::ToTokens::to_token_stream(side).to_string();
                let list = format!("`[{}, {}]`", shown(&binary.left), shown(&binary.right));
                errors.at(op, format!("tasks are listed with `[..]`: {list}"));
                return None;
            }
        };
        let (before, after) = (before.into(), after.into());
        Some(Self::Then(Then { before, after, operator, reversed, label }))
    }
}

fn orders(operator: &BinOp) -> bool {
    matches!(operator, BinOp::Shr(_) | BinOp::Shl(_))
}

/// `prep.a.call` as its words.
fn member(expression: &Expr) -> Option<Vec<Ident>> {
    match expression {
        Expr::Path(path) => path.path.get_ident().map(|name| vec![name.clone()]),
        Expr::Field(field) => {
            let Member::Named(name) = &field.member else { return None };
            let mut names = member(&field.base)?;
            names.push(name.clone());
            Some(names)
        }
        _ => None,
    }
}

fn no_task(expression: &Expr, errors: &mut Errors) -> Option<Order> {
    errors.at(expression, "`>>` orders tasks by their names: `a >> [b, c] >> d`");
    None
}
