//! The walk through a statement's tree.
//!
//! Statements, and expressions with parts of their own, are taken apart field by field, without `..`, so that a field
//! which a new version of the grammar adds is a compile error and not an overlooked door. Tables, functions and types get their schema written out on the way.

use bailiwick_core::Value;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    self as pg, AConst, Alias, CaseExpr, CaseWhen, CommonTableExpr, DeleteStmt, FuncCall, InsertStmt,
    JoinExpr, Node, OnConflictAction, OnConflictClause, RangeFunction, RangeSubselect, RangeVar, ResTarget,
    ReturningClause, SelectStmt, SqlValueFunctionOp, SubLink, TypeName, UpdateStmt, WindowDef, WithClause,
    a_const::Val,
};
use std::collections::{BTreeMap, BTreeSet};

use super::super::known;
use super::super::spec::{Columns, Scope, Verb};
use super::grammar::words;
use super::{Datum, Unfit, Uses};

type Walked = Result<(), Unfit>;

/// What a statement that touches data does and uses.
pub(super) fn data(node: &mut NodeEnum, scope: &Scope) -> Result<(Verb, Uses), Unfit> {
    let mut walk = Walk::of(scope);
    let verb = match node {
        NodeEnum::SelectStmt(stmt) => {
            walk.select(stmt)?;
            Verb::Select
        }
        NodeEnum::InsertStmt(stmt) => walk.insert(stmt)?,
        NodeEnum::UpdateStmt(stmt) => {
            walk.update(stmt)?;
            Verb::Update
        }
        NodeEnum::DeleteStmt(stmt) => {
            walk.delete(stmt)?;
            Verb::Delete
        }
        other => return Err(Unfit::new("sql.kind", format!("{} is not done here", words(other)))),
    };
    walk.resolve()?;
    Ok((verb, walk.uses))
}

struct Walk<'s> {
    scope: &'s Scope,
    uses: Uses,
    /// Names of WITH queries, innermost last.
    with: Vec<BTreeSet<String>>,
    /// What names before a dot stand for; `None` where one stands for several things or for no table.
    names: BTreeMap<String, Option<String>>,
    /// Whether rows come from anything but tables.
    other_rows: bool,
    /// Columns as written: what stands before the dot, and the name.
    read: BTreeSet<(Option<String>, String)>,
    /// Names that the statement gives to what it computes.
    outputs: BTreeSet<String>,
    /// Whether a value met now is stored, rather than says which rows.
    stored: bool,
}

impl<'s> Walk<'s> {
    fn of(scope: &'s Scope) -> Self {
        Walk {
            scope,
            uses: Uses::default(),
            with: Vec::new(),
            names: BTreeMap::new(),
            other_rows: false,
            read: BTreeSet::new(),
            outputs: BTreeSet::new(),
            stored: false,
        }
    }

    // ---- statements ---------------------------------------------------------------------------------------------

    fn select(&mut self, stmt: &mut SelectStmt) -> Walked {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = stmt;
        if into_clause.is_some() {
            return Err(Unfit::new("sql.kind", "SELECT INTO makes a table"));
        }
        if !locking_clause.is_empty() {
            return Err(Unfit::new("sql.kind", "rows are not locked here (FOR UPDATE and its like)"));
        }
        let held = self.with(with_clause.as_mut())?;
        self.nodes(from_clause)?;
        self.nodes(target_list)?;
        self.nodes(values_lists)?;
        let stored = std::mem::replace(&mut self.stored, false);
        self.nodes(distinct_clause)?;
        self.maybe(where_clause)?;
        self.nodes(group_clause)?;
        self.maybe(having_clause)?;
        self.nodes(window_clause)?;
        self.nodes(sort_clause)?;
        self.maybe(limit_offset)?;
        self.maybe(limit_count)?;
        self.stored = stored;
        for side in [larg, rarg].into_iter().flatten() {
            self.select(side)?;
        }
        self.with.truncate(held);
        Ok(())
    }

    fn insert(&mut self, stmt: &mut InsertStmt) -> Result<Verb, Unfit> {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override,
        } = stmt;
        if *r#override > pg::OverridingKind::OverridingNotSet as i32 {
            return Err(Unfit::new("sql.kind", "generated columns are not overridden here"));
        }
        let held = self.with(with_clause.as_mut())?;
        let table = self.written_table(relation.as_mut(), Verb::Insert)?;
        if cols.is_empty() {
            self.column(&table, "*", Verb::Insert)?;
        }
        self.targets(cols, &table, Verb::Insert)?;
        self.stored = true;
        self.maybe(select_stmt)?;
        self.stored = false;
        let verb = match on_conflict_clause {
            Some(clause) => self.on_conflict(clause, &table)?,
            None => Verb::Insert,
        };
        self.returning(returning_clause.as_mut())?;
        self.with.truncate(held);
        Ok(verb)
    }

    /// An insert that may change rows instead is a change.
    fn on_conflict(&mut self, clause: &mut OnConflictClause, table: &str) -> Result<Verb, Unfit> {
        let OnConflictClause { action, infer, target_list, where_clause, location: _ } = clause;
        if let Some(infer) = infer {
            let pg::InferClause { index_elems, where_clause, conname: _, location: _ } = &mut **infer;
            index_elems.iter().try_for_each(plain_column)?;
            self.maybe(where_clause)?;
        }
        if *action != OnConflictAction::OnconflictUpdate as i32 {
            return Ok(Verb::Insert);
        }
        self.may(table, Verb::Update)?;
        self.names.insert("excluded".to_owned(), Some(table.to_owned()));
        self.targets(target_list, table, Verb::Update)?;
        self.maybe(where_clause)?;
        Ok(Verb::Update)
    }

    fn update(&mut self, stmt: &mut UpdateStmt) -> Walked {
        let UpdateStmt { relation, target_list, where_clause, from_clause, returning_clause, with_clause } =
            stmt;
        let held = self.with(with_clause.as_mut())?;
        let table = self.written_table(relation.as_mut(), Verb::Update)?;
        self.nodes(from_clause)?;
        self.targets(target_list, &table, Verb::Update)?;
        self.maybe(where_clause)?;
        self.returning(returning_clause.as_mut())?;
        self.with.truncate(held);
        Ok(())
    }

    fn delete(&mut self, stmt: &mut DeleteStmt) -> Walked {
        let DeleteStmt { relation, using_clause, where_clause, returning_clause, with_clause } = stmt;
        let held = self.with(with_clause.as_mut())?;
        self.written_table(relation.as_mut(), Verb::Delete)?;
        self.nodes(using_clause)?;
        self.maybe(where_clause)?;
        self.returning(returning_clause.as_mut())?;
        self.with.truncate(held);
        Ok(())
    }

    fn returning(&mut self, clause: Option<&mut ReturningClause>) -> Walked {
        let Some(ReturningClause { options, exprs }) = clause else { return Ok(()) };
        if !options.is_empty() {
            return Err(Unfit::new("sql.kind", "RETURNING WITH is not known to every server"));
        }
        self.nodes(exprs)
    }

    /// Columns that are written, and what is written to them.
    fn targets(&mut self, list: &mut [Node], table: &str, verb: Verb) -> Walked {
        for node in list {
            let Some(NodeEnum::ResTarget(target)) = &mut node.node else { return Err(unknown(node)) };
            let ResTarget { name, indirection, val, location: _ } = &mut **target;
            self.column(table, name, verb)?;
            subscripts(indirection)?;
            self.nodes(indirection)?;
            self.stored = true;
            self.maybe(val)?;
            self.stored = false;
        }
        Ok(())
    }

    // ---- where rows come from -----------------------------------------------------------------------------------

    /// WITH queries: each sees those before it, or all of them if the clause is recursive. Gives back how many
    /// levels were held before.
    fn with(&mut self, clause: Option<&mut WithClause>) -> Result<usize, Unfit> {
        let held = self.with.len();
        let Some(WithClause { ctes, recursive, location: _ }) = clause else { return Ok(held) };
        let name = |node: &Node| match &node.node {
            Some(NodeEnum::CommonTableExpr(cte)) => Some(cte.ctename.clone()),
            _ => None,
        };
        let all: BTreeSet<String> = ctes.iter().filter_map(name).collect();
        if all.len() != ctes.len() {
            return Err(Unfit::new("sql.kind", "two WITH queries of one name"));
        }
        self.with.push(if *recursive { all } else { BTreeSet::new() });
        self.other_rows = true;
        let stored = std::mem::replace(&mut self.stored, false);
        for node in ctes {
            let Some(NodeEnum::CommonTableExpr(cte)) = &mut node.node else { return Err(unknown(node)) };
            self.with_query(cte)?;
            self.names.insert(cte.ctename.clone(), None);
            if let Some(level) = self.with.last_mut() {
                level.insert(cte.ctename.clone());
            }
        }
        self.stored = stored;
        Ok(held)
    }

    fn with_query(&mut self, cte: &mut CommonTableExpr) -> Walked {
        let CommonTableExpr {
            ctename: _,
            aliascolnames,
            ctematerialized: _,
            ctequery,
            search_clause,
            cycle_clause,
            location: _,
            cterecursive: _,
            cterefcount: _,
            ctecolnames: _,
            ctecoltypes: _,
            ctecoltypmods: _,
            ctecolcollations: _,
        } = cte;
        if search_clause.is_some() || cycle_clause.is_some() {
            return Err(Unfit::new("sql.kind", "SEARCH and CYCLE are not done here"));
        }
        strings(aliascolnames)?;
        match ctequery.as_mut().and_then(|query| query.node.as_mut()) {
            Some(NodeEnum::SelectStmt(query)) => self.select(query),
            _ => Err(Unfit::new("sql.with_writes", "a WITH query reads; this one writes")),
        }
    }

    /// A table that is read, or the name of a WITH query.
    fn table(&mut self, relation: &mut RangeVar) -> Walked {
        let bare = relation.schemaname.is_empty() && relation.catalogname.is_empty();
        if bare && self.with.iter().any(|level| level.contains(&relation.relname)) {
            self.name(relation.alias.as_ref(), &relation.relname, None);
            return plain_alias(relation.alias.as_ref());
        }
        self.full(relation, Verb::Select).map(drop)
    }

    /// The table that a statement writes to.
    fn written_table(&mut self, relation: Option<&mut RangeVar>, verb: Verb) -> Result<String, Unfit> {
        let relation = relation.ok_or_else(|| Unfit::new("sql.kind", "it names no table"))?;
        self.full(relation, verb)
    }

    /// Writes the schema out and asks whether the scope names the table.
    fn full(&mut self, relation: &mut RangeVar, verb: Verb) -> Result<String, Unfit> {
        let RangeVar { catalogname, schemaname, relname, inh: _, relpersistence, alias, location: _ } =
            relation;
        if !catalogname.is_empty() || relpersistence != "p" {
            return Err(Unfit::new("sql.table", "a table is named by schema and name"));
        }
        if schemaname.is_empty() {
            "public".clone_into(schemaname);
        }
        let table = format!("{schemaname}.{relname}");
        self.may(&table, verb)?;
        self.name(alias.as_ref(), relname, Some(table.clone()));
        plain_alias(alias.as_ref())?;
        Ok(table)
    }

    fn may(&mut self, table: &str, verb: Verb) -> Walked {
        let allowed = self.scope.tables.get(table).is_some_and(|verbs| verb.of(verbs).any());
        if !allowed {
            let what = format!("the scope has no {} of {table}", verb.as_str().to_uppercase());
            return Err(Unfit::new("sql.table", what));
        }
        self.uses.tables.insert(table.to_owned());
        Ok(())
    }

    /// Remembers what a name before a dot stands for.
    fn name(&mut self, alias: Option<&Alias>, own: &str, table: Option<String>) {
        let name = alias.map_or(own, |alias| alias.aliasname.as_str()).to_owned();
        let renamed = alias.is_some_and(|alias| !alias.colnames.is_empty());
        let stands_for = table.filter(|_| !renamed);
        if stands_for.is_none() {
            self.other_rows = true;
        }
        let known = self.names.entry(name).or_insert_with(|| stands_for.clone());
        if *known != stands_for {
            *known = None;
        }
    }

    fn join(&mut self, join: &mut JoinExpr) -> Walked {
        let JoinExpr {
            jointype: _,
            is_natural: _,
            larg,
            rarg,
            using_clause,
            join_using_alias,
            quals,
            alias,
            rtindex: _,
        } = join;
        self.maybe(larg)?;
        self.maybe(rarg)?;
        strings(using_clause)?;
        for column in texts(using_clause)? {
            self.read.insert((None, column));
        }
        for alias in [alias, join_using_alias].into_iter().flatten() {
            self.name(Some(alias), "", None);
            plain_alias(Some(alias))?;
        }
        let stored = std::mem::replace(&mut self.stored, false);
        self.maybe(quals)?;
        self.stored = stored;
        Ok(())
    }

    fn subselect(&mut self, from: &mut RangeSubselect) -> Walked {
        let RangeSubselect { lateral: _, subquery, alias } = from;
        self.name(alias.as_ref(), "", None);
        plain_alias(alias.as_ref())?;
        self.query(subquery)
    }

    /// A query inside another: it only reads.
    fn query(&mut self, node: &mut Option<Box<Node>>) -> Walked {
        match node.as_mut().and_then(|node| node.node.as_mut()) {
            Some(NodeEnum::SelectStmt(select)) => self.select(select),
            _ => Err(Unfit::new("sql.kind", "only a SELECT may stand inside a statement")),
        }
    }

    fn rows_of(&mut self, from: &mut RangeFunction) -> Walked {
        let RangeFunction { lateral: _, ordinality: _, is_rowsfrom: _, functions, alias, coldeflist } = from;
        if !coldeflist.is_empty() {
            return Err(Unfit::new("sql.function", "a function with a list of columns is not called here"));
        }
        self.name(alias.as_ref(), "", None);
        plain_alias(alias.as_ref())?;
        self.nodes(functions)
    }

    // ---- expressions --------------------------------------------------------------------------------------------

    fn nodes(&mut self, nodes: &mut [Node]) -> Walked {
        nodes.iter_mut().try_for_each(|node| self.node(node))
    }

    fn maybe(&mut self, node: &mut Option<Box<Node>>) -> Walked {
        node.as_mut().map_or(Ok(()), |node| self.node(node))
    }

    fn node(&mut self, node: &mut Node) -> Walked {
        let Some(inner) = &mut node.node else { return Ok(()) };
        match inner {
            NodeEnum::SelectStmt(select) => self.select(select),
            NodeEnum::RangeVar(relation) => self.table(relation),
            NodeEnum::JoinExpr(join) => self.join(join),
            NodeEnum::RangeSubselect(from) => self.subselect(from),
            NodeEnum::RangeFunction(from) => self.rows_of(from),
            NodeEnum::ResTarget(target) => {
                let ResTarget { name, indirection, val, location: _ } = &mut **target;
                self.outputs.insert(name.clone());
                subscripts(indirection)?;
                self.nodes(indirection)?;
                self.maybe(val)
            }
            NodeEnum::ColumnRef(column) => self.column_ref(&column.fields),
            NodeEnum::AConst(constant) => {
                self.constant(constant);
                Ok(())
            }
            NodeEnum::ParamRef(param) => {
                let number = usize::try_from(param.number).ok().filter(|n| *n > 0);
                let number = number.ok_or_else(|| Unfit::new("sql.kind", "a parameter has no number"))?;
                self.datum(Datum::Given(number));
                Ok(())
            }
            NodeEnum::FuncCall(call) => self.call(call),
            NodeEnum::TypeCast(cast) => {
                let pg::TypeCast { arg, type_name, location: _ } = &mut **cast;
                of_type(type_name.as_mut())?;
                self.maybe(arg)
            }
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::WindowDef(window) => self.window(window),
            NodeEnum::SqlvalueFunction(function) => clock(function.op),
            NodeEnum::SetToDefault(_) | NodeEnum::AStar(_) => Ok(()),
            _ => self.made_of_others(node),
        }
    }

    /// Expressions that do nothing but hold others.
    fn made_of_others(&mut self, node: &mut Node) -> Walked {
        let Some(inner) = &mut node.node else { return Ok(()) };
        match inner {
            NodeEnum::AExpr(expr) => {
                let pg::AExpr {
                    kind: _,
                    name,
                    lexpr,
                    rexpr,
                    rexpr_list_start: _,
                    rexpr_list_end: _,
                    location: _,
                } = &mut **expr;
                operator(name)?;
                self.maybe(lexpr)?;
                self.maybe(rexpr)
            }
            NodeEnum::BoolExpr(expr) => {
                let pg::BoolExpr { xpr: _, boolop: _, args, location: _ } = &mut **expr;
                self.nodes(args)
            }
            NodeEnum::CaseExpr(case) => {
                let CaseExpr { xpr: _, casetype: _, casecollid: _, arg, args, defresult, location: _ } =
                    &mut **case;
                self.maybe(arg)?;
                self.nodes(args)?;
                self.maybe(defresult)
            }
            NodeEnum::CaseWhen(when) => {
                let CaseWhen { xpr: _, expr, result, location: _ } = &mut **when;
                self.maybe(expr)?;
                self.maybe(result)
            }
            NodeEnum::RowExpr(row) => {
                let pg::RowExpr { xpr: _, args, row_typeid: _, row_format: _, colnames, location: _ } =
                    &mut **row;
                strings(colnames)?;
                self.nodes(args)
            }
            NodeEnum::AIndirection(expr) => {
                let pg::AIndirection { arg, indirection } = &mut **expr;
                subscripts(indirection)?;
                self.maybe(arg)?;
                self.nodes(indirection)
            }
            NodeEnum::AIndices(indices) => {
                let pg::AIndices { is_slice: _, lidx, uidx } = &mut **indices;
                self.maybe(lidx)?;
                self.maybe(uidx)
            }
            NodeEnum::SortBy(sort) => {
                let pg::SortBy { node, sortby_dir: _, sortby_nulls: _, use_op, location: _ } = &mut **sort;
                operator(use_op)?;
                self.maybe(node)
            }
            NodeEnum::CollateClause(collate) => {
                let pg::CollateClause { arg, collname, location: _ } = &mut **collate;
                strings(collname)?;
                self.maybe(arg)
            }
            NodeEnum::CoalesceExpr(expr) => self.nodes(&mut expr.args),
            NodeEnum::MinMaxExpr(expr) => self.nodes(&mut expr.args),
            NodeEnum::NullTest(test) => self.maybe(&mut test.arg),
            NodeEnum::BooleanTest(test) => self.maybe(&mut test.arg),
            NodeEnum::AArrayExpr(array) => self.nodes(&mut array.elements),
            NodeEnum::List(list) => self.nodes(&mut list.items),
            NodeEnum::GroupingSet(set) => self.nodes(&mut set.content),
            NodeEnum::GroupingFunc(grouping) => self.nodes(&mut grouping.args),
            NodeEnum::MultiAssignRef(assign) => self.maybe(&mut assign.source),
            _ => Err(unknown(node)),
        }
    }

    fn sub_link(&mut self, link: &mut SubLink) -> Walked {
        let SubLink { xpr: _, sub_link_type: _, sub_link_id: _, testexpr, oper_name, subselect, location: _ } =
            link;
        operator(oper_name)?;
        self.other_rows = true;
        self.maybe(testexpr)?;
        self.query(subselect)
    }

    fn constant(&mut self, constant: &AConst) {
        let AConst { isnull: _, location: _, val } = constant;
        let value = match val {
            None => Value::Null,
            Some(Val::Ival(n)) => Value::Int(i64::from(n.ival)),
            Some(Val::Fval(n)) => n.fval.parse().map_or_else(|_| Value::Text(n.fval.clone()), Value::Int),
            Some(Val::Boolval(b)) => Value::Bool(b.boolval),
            Some(Val::Sval(text)) => Value::Text(text.sval.clone()),
            Some(Val::Bsval(bits)) => Value::Text(bits.bsval.clone()),
        };
        self.datum(Datum::Written(value));
    }

    fn datum(&mut self, datum: Datum) {
        let list = if self.stored { &mut self.uses.values } else { &mut self.uses.selectors };
        list.push(datum);
    }

    fn call(&mut self, call: &mut FuncCall) -> Walked {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location: _,
        } = call;
        let name = self.function(funcname)?;
        self.uses.functions.insert(name);
        self.nodes(args)?;
        self.nodes(agg_order)?;
        self.maybe(agg_filter)?;
        over.as_mut().map_or(Ok(()), |over| self.window(over))
    }

    /// A function that is known, or that the scope names; its schema is written out.
    fn function(&mut self, name: &mut Vec<Node>) -> Result<String, Unfit> {
        let parts = texts(name)?;
        let (schema, own) = match parts.as_slice() {
            [own] if known::function(own) => ("pg_catalog", own.clone()),
            [own] => ("public", own.clone()),
            [schema, own] => (schema.as_str(), own.clone()),
            _ => return Err(Unfit::new("sql.function", "a function is named by schema and name")),
        };
        let full = format!("{schema}.{own}");
        let known = schema == "pg_catalog" && known::function(&own);
        if !known && !self.scope.functions.contains(&full) {
            let why = format!("the function {own} is neither one that only computes nor named by the scope");
            return Err(Unfit::new("sql.function", why));
        }
        if parts.len() == 1 {
            name.insert(0, string(schema));
        }
        Ok(full)
    }

    fn window(&mut self, window: &mut WindowDef) -> Walked {
        let WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location: _,
        } = window;
        self.nodes(partition_clause)?;
        self.nodes(order_clause)?;
        self.maybe(start_offset)?;
        self.maybe(end_offset)
    }

    // ---- columns ------------------------------------------------------------------------------------------------

    fn column_ref(&mut self, fields: &[Node]) -> Walked {
        let mut parts = Vec::new();
        for field in fields {
            parts.push(match &field.node {
                Some(NodeEnum::String(text)) => text.sval.clone(),
                Some(NodeEnum::AStar(_)) => "*".to_owned(),
                _ => return Err(unknown(field)),
            });
        }
        let read = match parts.as_slice() {
            [column] => (None, column.clone()),
            [before, column] => (Some(before.clone()), column.clone()),
            [schema, table, column] => (Some(format!("{schema}.{table}")), column.clone()),
            _ => return Err(Unfit::new("sql.column", "a column is named by table and name")),
        };
        self.read.insert(read);
        Ok(())
    }

    /// Finds the tables of the columns that are read, once all tables are known.
    fn resolve(&mut self) -> Walked {
        let only = match (self.other_rows, self.uses.tables.len()) {
            (false, 1) => self.uses.tables.first().cloned(),
            _ => None,
        };
        for (before, column) in std::mem::take(&mut self.read) {
            let table = match &before {
                None => only.clone(),
                Some(before) if self.uses.tables.contains(before) => Some(before.clone()),
                Some(before) => self.names.get(before).cloned().flatten(),
            };
            // A bare name may be one that the statement itself gives, and that of a table stands for its whole row.
            let given = before.is_none() && self.outputs.contains(&column);
            let whole = before.is_none() && self.names.contains_key(&column);
            match table {
                Some(table) if !given => {
                    self.column(&table, if whole { "*" } else { &column }, Verb::Select)?
                }
                _ => _ = self.uses.columns.insert(column),
            }
        }
        Ok(())
    }

    fn column(&mut self, table: &str, column: &str, verb: Verb) -> Walked {
        let admitted = self.scope.tables.get(table).map_or(Columns::None, |verbs| verb.of(verbs));
        // What `*` stands for is the server's to say; it checks each column by the login's own rights.
        if column != "*" && !admitted.admits(column) {
            let verb = verb.as_str().to_uppercase();
            return Err(Unfit::new("sql.column", format!("the scope has no {verb} of {table}.{column}")));
        }
        self.uses.columns.insert(format!("{table}.{column}"));
        Ok(())
    }
}

/// A built-in type without side effects; its schema is written out.
fn of_type(name: Option<&mut TypeName>) -> Walked {
    let name = name.ok_or_else(|| Unfit::new("sql.type", "a cast to no type"))?;
    let TypeName { names, type_oid: _, setof, pct_type, typmods, typemod: _, array_bounds: _, location: _ } =
        name;
    if *setof || *pct_type {
        return Err(Unfit::new("sql.type", "a type is named plainly here"));
    }
    let parts = texts(names)?;
    let own = match parts.as_slice() {
        [own] => own,
        [schema, own] if schema == "pg_catalog" => own,
        _ => return Err(Unfit::new("sql.type", "only built-in types are cast to here")),
    };
    if !known::of_type(own) {
        return Err(Unfit::new("sql.type", format!("nothing is cast to the type {own} here")));
    }
    if parts.len() == 1 {
        names.insert(0, string("pg_catalog"));
    }
    // A length is not a value of the statement.
    let odd = typmods.iter().find(|node| !matches!(&node.node, Some(NodeEnum::AConst(_))));
    odd.map_or(Ok(()), |other| Err(unknown(other)))
}

/// The clock may be read; who and where we are in the database is nobody's business.
fn clock(op: i32) -> Walked {
    use SqlValueFunctionOp as F;
    match F::try_from(op) {
        Ok(
            F::SvfopCurrentDate
            | F::SvfopCurrentTime
            | F::SvfopCurrentTimeN
            | F::SvfopCurrentTimestamp
            | F::SvfopCurrentTimestampN
            | F::SvfopLocaltime
            | F::SvfopLocaltimeN
            | F::SvfopLocaltimestamp
            | F::SvfopLocaltimestampN,
        ) => Ok(()),
        _ => Err(Unfit::new("sql.function", "who is logged in where is not told here")),
    }
}

/// An operator without a schema, or of `pg_catalog`.
fn operator(name: &[Node]) -> Walked {
    match texts(name)?.as_slice() {
        [] | [_] => Ok(()),
        [schema, _] if schema == "pg_catalog" => Ok(()),
        _ => Err(Unfit::new("sql.function", "only built-in operators are used here")),
    }
}

/// A field of a composite value could also be a function of one argument; an element of an array is only that.
fn subscripts(indirection: &[Node]) -> Walked {
    let odd = indirection.iter().any(|i| !matches!(i.node, Some(NodeEnum::AIndices(_))));
    if odd { Err(Unfit::new("sql.kind", "a field of a composite value is not taken here")) } else { Ok(()) }
}

/// What a conflict is about: a column, and no expression.
fn plain_column(node: &Node) -> Walked {
    let plain = match &node.node {
        Some(NodeEnum::IndexElem(elem)) => {
            elem.expr.is_none() && elem.collation.is_empty() && elem.opclass.is_empty()
        }
        _ => false,
    };
    if plain { Ok(()) } else { Err(Unfit::new("sql.kind", "a conflict is named by plain columns")) }
}

fn plain_alias(alias: Option<&Alias>) -> Walked {
    let Some(Alias { aliasname: _, colnames }) = alias else { return Ok(()) };
    strings(colnames)
}

fn strings(nodes: &[Node]) -> Walked {
    texts(nodes).map(drop)
}

fn texts(nodes: &[Node]) -> Result<Vec<String>, Unfit> {
    let text = |node: &Node| match &node.node {
        Some(NodeEnum::String(text)) => Ok(text.sval.clone()),
        _ => Err(unknown(node)),
    };
    nodes.iter().map(text).collect()
}

fn string(text: &str) -> Node {
    Node { node: Some(NodeEnum::String(pg::String { sval: text.to_owned() })) }
}

fn unknown(node: &Node) -> Unfit {
    let what = node.node.as_ref().map_or_else(|| "an empty part".to_owned(), words);
    Unfit::new("sql.unknown", format!("{what} is not understood here"))
}
