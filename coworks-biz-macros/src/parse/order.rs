//! `a >> [b, c] >> d`: an order of tasks.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{BinOp, Expr, Ident, Member};

use crate::errors::Errors;

/// An order as it is written.
pub enum Order {
    /// `a`
    Name(Ident),
    /// `a.call`
    Member(Ident, Ident),
    /// `[a, b]`
    List(Vec<Order>),
    /// `a >> b`, and `b << a` the other way round.
    Then { before: Box<Order>, after: Box<Order>, operator: Span, reversed: bool },
}

impl Order {
    /// Whether this expression orders tasks, rightly or wrongly.
    pub fn is_one(expression: &Expr) -> bool {
        match expression {
            Expr::Binary(binary) => {
                matches!(binary.op, BinOp::Shr(_) | BinOp::Shl(_))
                    || Self::is_one(&binary.left)
                    || Self::is_one(&binary.right)
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
                Some(name) => Some(Self::Name(name.clone())),
                None => {
                    errors.at(path, "a task is named by one word; nested functions of this biz are tasks");
                    None
                }
            },
            Expr::Field(field) => match (&*field.base, &field.member) {
                (Expr::Path(group), Member::Named(member)) => match group.path.get_ident() {
                    Some(group) => Some(Self::Member(group.clone(), member.clone())),
                    None => no_task(expression, errors),
                },
                _ => no_task(expression, errors),
            },
            Expr::Array(list) => {
                let operands: Vec<_> = list.elems.iter().map(|item| Self::parse(item, errors)).collect();
                operands.into_iter().collect::<Option<_>>().map(Self::List)
            }
            Expr::Paren(inner) => Self::parse(&inner.expr, errors),
            Expr::Binary(binary) => {
                let (left, right) = (Self::parse(&binary.left, errors), Self::parse(&binary.right, errors));
                let operator = binary.op.span();
                let (before, after, reversed) = match binary.op {
                    BinOp::Shr(_) => (left?, right?, false),
                    BinOp::Shl(_) => (right?, left?, true),
                    op => {
                        let shown = |side: &Expr| quote::ToTokens::to_token_stream(side).to_string();
                        let list = format!("`[{}, {}]`", shown(&binary.left), shown(&binary.right));
                        errors.at(op, format!("tasks are listed with `[..]`: {list}"));
                        return None;
                    }
                };
                Some(Self::Then { before: before.into(), after: after.into(), operator, reversed })
            }
            other => no_task(other, errors),
        }
    }
}

fn no_task(expression: &Expr, errors: &mut Errors) -> Option<Order> {
    errors.at(expression, "`>>` orders tasks by their names: `a >> [b, c] >> d`");
    None
}
