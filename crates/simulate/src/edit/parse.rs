//! Expressions as a person writes them.

use std::str::FromStr;

use super::expression::{Bound, Expression, Literal};
use super::tokens::{Spot, Token, tokens};
use crate::{Result, SimulateError};

impl FromStr for Expression {
    type Err = SimulateError;

    fn from_str(text: &str) -> Result<Self> {
        let mut parser = Parser { text, tokens: tokens(text)?, next: 0 };
        let expression = parser.either()?;
        match parser.peek() {
            Token::End => Ok(expression),
            _ => Err(parser.wrong("expected `and`, `or` or the end")),
        }
    }
}

/// Descends from `or` to comparisons.
struct Parser<'a> {
    text: &'a str,
    /// The last is [`Token::End`].
    tokens: Vec<Spot>,
    next: usize,
}

impl Parser<'_> {
    fn either(&mut self) -> Result<Expression> {
        let mut left = self.both()?;
        while self.took_word("or") {
            left = Expression::Or(Box::new(left), Box::new(self.both()?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Expression> {
        let mut left = self.one()?;
        while self.took_word("and") {
            left = Expression::And(Box::new(left), Box::new(self.one()?));
        }
        Ok(left)
    }

    fn one(&mut self) -> Result<Expression> {
        if self.took_word("not") {
            return Ok(Expression::Not(Box::new(self.one()?)));
        }
        if self.took(&Token::Open) {
            let inner = self.either()?;
            return if self.took(&Token::Close) { Ok(inner) } else { Err(self.wrong("expected `)`")) };
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression> {
        let Token::Word(column) = self.peek().clone() else {
            return Err(self.wrong("expected a column, `not` or `(`"));
        };
        self.next += 1;
        if self.took_word("not") {
            if !self.took_word("in") {
                return Err(self.wrong("expected `in`"));
            }
            return Ok(Expression::Not(Box::new(Expression::In(column, self.list()?))));
        }
        if self.took_word("in") {
            return Ok(Expression::In(column, self.list()?));
        }
        let Token::Operator(operator) = *self.peek() else {
            return Err(self.wrong("expected =, !=, <, <=, >, >= or `in` after the column"));
        };
        self.next += 1;
        let bound = match operator {
            "=" | "==" => return Ok(Expression::In(column, vec![self.value()?])),
            "!=" => return Ok(Expression::Not(Box::new(Expression::In(column, vec![self.value()?])))),
            "<" => Bound::Below,
            "<=" => Bound::AtMost,
            ">" => Bound::Above,
            _ => Bound::AtLeast,
        };
        if column == "id" {
            self.next -= 1;
            return Err(self.wrong("ids are texts, which have no order: use =, != or `in`"));
        }
        match self.peek() {
            Token::Number(limit, _) => {
                let limit = *limit;
                self.next += 1;
                Ok(Expression::Order(column, bound, limit))
            }
            _ => Err(self.wrong("expected a number")),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>> {
        if !self.took(&Token::Open) {
            return Err(self.wrong("expected `(` and the values of the list"));
        }
        let mut values = vec![self.value()?];
        while self.took(&Token::Comma) {
            values.push(self.value()?);
        }
        if self.took(&Token::Close) { Ok(values) } else { Err(self.wrong("expected `,` or `)`")) }
    }

    fn value(&mut self) -> Result<Literal> {
        let value = match self.peek() {
            Token::Text(text) => Literal::Text(text.clone()),
            Token::Number(number, written) => Literal::Number(*number, written.clone()),
            Token::Word(word) if word == "true" => Literal::Truth(true),
            Token::Word(word) if word == "false" => Literal::Truth(false),
            Token::Word(word) => {
                let problem = format!("expected a value; a text has quotes: \"{word}\"");
                return Err(self.wrong(&problem));
            }
            _ => return Err(self.wrong("expected a value: a text in quotes, a number, true or false")),
        };
        self.next += 1;
        Ok(value)
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |spot| &spot.token)
    }

    fn took(&mut self, token: &Token) -> bool {
        let is = self.peek() == token;
        self.next += usize::from(is);
        is
    }

    fn took_word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word));
        self.next += usize::from(is);
        is
    }

    fn wrong(&self, problem: &str) -> SimulateError {
        let column = self.tokens.get(self.next).map_or(0, |spot| spot.column);
        SimulateError::Expression { text: self.text.to_owned(), column, problem: problem.to_owned() }
    }
}
