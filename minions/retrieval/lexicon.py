"""What people ask of accounts, how filings write it, and where it stands.

General accounting knowledge (US GAAP captions as in Regulation S-X, articles 5-03 and 5-04, and
Form 10-K's items); nothing here is about a particular company. A concept's `asked` phrases are
looked for in the question, its `written` phrases in row labels and text. Both are folded as
`minions.retrieval.structure.folded` does: lower case, words apart by one space, no punctuation.
A phrase matches from the start of a word, so that `inventor` finds `inventory` and `inventories`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Part(enum.StrEnum):
    """A part of a report that can be recognised without a model."""

    BALANCE_SHEET = "balance sheet"
    INCOME_STATEMENT = "income statement"
    CASH_FLOW = "cash flow statement"
    RESULTS = "discussion of results"
    """Prose or tables that explain what changed, and why."""
    SEGMENTS = "segments and regions"
    BUSINESS = "description of the business"
    LEGAL = "legal proceedings"
    DEALS = "acquisitions and disposals"
    COVER = "cover page"


@dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """Something that is asked for."""

    name: str
    asked: tuple[str, ...]
    written: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    needs: tuple[str, ...] = ()
    """Names of the concepts that it is worked out from."""


def _listed(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split("|"))


def _line(name: str, part: Part, asked: str, written: str) -> Concept:
    """A line of a statement, which is asked for by any of the names it is written with."""
    names = _listed(asked) + _listed(written)
    return Concept(name=name, asked=names, written=_listed(written), parts=(part,))


def _ratio(name: str, asked: str, needs: str) -> Concept:
    return Concept(name=name, asked=_listed(asked), needs=_listed(needs))


def _topic(name: str, part: Part, asked: str, written: str) -> Concept:
    return Concept(name=name, asked=_listed(asked), written=_listed(written), parts=(part,))


_INCOME_LINES = (
    ("revenue", "top line|sales growth|turnover of the company",
     "revenue|net sale|total sale|sales to customers|net revenue"),
    ("cost of sales", "cogs|cost of good",
     "cost of sale|cost of revenue|cost of goods sold|cost of products sold|cost of product|"
     "costs of revenue"),
    ("gross profit", "gross margin|gross profitability", "gross profit|gross margin"),
    ("sg&a", "sg a|sga|overhead",
     "selling general and administrative|selling informational and administrative|"
     "marketing general and administrative|general and administrative|selling and marketing"),
    ("research", "r d|rnd", "research and development|research development"),
    ("operating income", "ebit|operating margin|operating result",
     "operating income|operating profit|income from operation|operating earnings|"
     "operating loss|loss from operation|operating income loss"),
    ("interest expense", "interest cost|interest coverage",
     "interest expense|interest and debt expense|interest and other"),
    ("income tax", "tax rate|taxes paid|etr",
     "income tax|provision for income tax|provision for taxes|effective tax rate"),
    ("net income", "bottom line|profitability|net profit|net margin|return on|profit margin",
     "net income|net earning|net loss|net profit|income attributable to|"
     "earnings attributable to"),
    ("earnings per share", "eps", "per share|diluted|earnings per"),
    ("shares", "share count|number of share", "weighted average|shares outstanding"),
    ("restructuring", "reorgani", "restructuring|severance"),
    ("impairment", "write down|writedown|write off", "impairment"),
)  # fmt: skip

_BALANCE_LINES = (
    ("cash", "liquid asset|cash position|cash balance", "cash and cash equivalent|cash equivalent"),
    ("short-term investments", "quick asset",
     "marketable securit|short term investment|current investment"),
    ("receivables", "ar|trade debtor|dso|net ar|amounts owed by customer",
     "accounts receivable|trade receivable|receivables net|accounts and notes receivable|"
     "trade accounts receivable"),
    ("inventory", "stock on hand|dio", "inventor"),
    ("current assets", "", "total current asset"),
    ("property", "ppe|pp e|ppne|pp ne|fixed asset|capital intensive|net ppe",
     "property plant and equipment|property and equipment|property equipment|"
     "premises and equipment|plant and equipment"),
    ("goodwill", "", "goodwill"),
    ("intangibles", "", "intangible asset|intangibles"),
    ("total assets", "asset base|assets", "total asset"),
    ("payables", "ap|trade creditor|dpo", "accounts payable|trade payable|payables"),
    ("current liabilities", "", "total current liabilit"),
    ("debt", "borrowing|leverage|indebted|gearing|notes payable",
     "long term debt|short term debt|current portion of long term|short term borrowing|"
     "notes payable|debt obligation|commercial paper|total debt"),
    ("total liabilities", "liabilities", "total liabilit"),
    ("equity", "book value|net worth",
     "total equity|shareholders equity|stockholders equity|shareowners equity|"
     "retained earning|total shareholders|total stockholders"),
    ("deferred revenue", "unearned", "deferred revenue|unearned revenue|contract liabilit"),
    ("leases", "", "lease liabilit|right of use|operating lease"),
)  # fmt: skip

_CASH_LINES = (
    ("capex", "capex|capital expenditure|capital spending|capital investment",
     "purchases of property|purchase of property|capital expenditure|capital spending|"
     "additions to property|payments for property|purchases of land|payments to acquire property|"
     "acquisition of property|expenditures for property|purchases of fixed|additions to plant|"
     "capital additions"),
    ("depreciation", "d a|da|ebitda|non cash charge",
     "depreciation and amortization|depreciation amortization|depreciation|"
     "amortization of intangible"),
    ("operating cash", "cash from operation|operating cash flow|cash generat|cashflow",
     "cash provided by operating|operating activit|cash flows from operating|"
     "cash from operating|cash provided by used in operating"),
    ("investing cash", "", "investing activit"),
    ("financing cash", "", "financing activit"),
    ("dividends", "payout|dividend", "dividends paid|cash dividend|payment of dividend|dividend"),
    ("buybacks", "buyback|buy back|share repurchase|stock repurchase|repurchased",
     "repurchase of common|share repurchase|purchases of treasury|treasury stock purchase|"
     "repurchases of|common stock repurchased|stock repurchase"),
    ("stock compensation", "sbc|share based|stock based|equity compensation",
     "stock based compensation|share based compensation"),
)  # fmt: skip

_RATIOS = (
    ("quick ratio", "quick ratio|acid test|liquidity profile|liquidity position",
     "cash|short-term investments|receivables|inventory|current assets|current liabilities"),
    ("current ratio", "current ratio|working capital", "current assets|current liabilities"),
    ("cash ratio", "cash ratio", "cash|current liabilities"),
    ("dpo", "dpo|days payable", "payables|cost of sales|inventory"),
    ("dso", "dso|days sales outstanding|days sale outstanding", "receivables|revenue"),
    ("dio", "dio|days inventory|inventory turn|inventory management|sold its inventory",
     "inventory|cost of sales"),
    ("cash conversion cycle", "cash conversion cycle|ccc",
     "payables|receivables|inventory|cost of sales|revenue"),
    ("asset turnover", "asset turnover|capital efficiency", "total assets|revenue"),
    ("fixed asset turnover", "fixed asset turnover", "property|revenue"),
    ("capital intensity", "capital intensi|capital intensive",
     "capex|property|total assets|revenue|net income"),
    ("return on assets", "roa|return on asset", "net income|total assets"),
    ("return on equity", "roe|return on equity", "net income|equity"),
    ("free cash flow", "fcf|free cash", "operating cash|capex"),
    ("cash conversion", "cash conversion|cashflow conversion", "operating cash|capex|net income"),
    ("operating cash ratio", "operating cash flow ratio|cash flow ratio",
     "operating cash|current liabilities"),
    ("payout", "payout ratio|retention ratio|dividend payout", "dividends|net income"),
    ("ebitda", "ebitda", "operating income|depreciation"),
    ("interest cover", "interest cover|times interest", "operating income|interest expense"),
    ("debt to equity", "debt to equity|gearing|leverage ratio", "debt|equity"),
    ("net debt", "net debt", "debt|cash"),
    ("effective tax", "effective tax", "income tax"),
    ("margin", "gross margin", "gross profit|cost of sales|revenue"),
    ("operating margin", "operating margin", "operating income|revenue"),
    ("net margin", "net margin|net profit margin|profit margin", "net income|revenue"),
    ("growth", "growth rate|cagr|high growth", "revenue"),
    ("financials", "activities brought|operations investing and financing|"
     "operating investing and financing", "operating cash|investing cash|financing cash"),
)  # fmt: skip

_TOPICS = (
    ("drivers", Part.RESULTS,
     "what drove|drove|driven|driver|why did|what caused|reason for|contributed to|due to|"
     "main cause|explain the change|factor behind",
     "primarily due to|driven by|as a result of|attributable to|partially offset|offset by|"
     "reflecting|primarily driven"),
    ("growth discussion", Part.RESULTS, "high growth|growth compare|sales growth|organic|excluding|"
     "excluding the impact|dragged",
     "organic|increased by|decreased by|total sales change|compared to"),
    ("outlook", Part.RESULTS, "guidance|outlook|expect|forecast|full year guidance",
     "guidance|outlook|we expect|expects|full year"),
    ("segments", Part.SEGMENTS, "segment|division|business unit|business line",
     "segment|operating segment|reportable segment"),
    ("regions", Part.SEGMENTS, "geograph|region|countr|international",
     "united states|international|europe|asia pacific|latin america|geographic|rest of world"),
    ("business", Part.BUSINESS,
     "industry|products and services|product|operate in|business model|primarily operate|"
     "main business|what does",
     "global leader|leading provider|our products|we operate|products and services|overview|"
     "our business|our operations"),
    ("customers", Part.BUSINESS, "customer concentration|major customer|largest customer|"
     "single customer", "customer accounted for|of our revenue|largest customer|10 of"),
    ("employees", Part.BUSINESS, "employee|headcount|workforce|staff",
     "employees|full time|human capital"),
    ("competition", Part.BUSINESS, "competitor|competition|compete", "compete|competitors"),
    ("legal", Part.LEGAL, "legal|lawsuit|litigation|legal battle|court|legal proceeding",
     "legal proceedings|litigation|lawsuit|claims|plaintiff"),
    ("deals", Part.DEALS, "acquisition|acquired|acquire|merger|takeover|divest|bought",
     "acquisition|acquired|divestiture|purchase price|business combination|completed the"),
    ("spin-off", Part.DEALS, "spin off|spinning off|separation|discontinued|divest",
     "spin off|separation|discontinued operation|divestiture|distribution"),
    ("registered securities", Part.COVER, "registered|national securities exchange|ticker|"
     "trading symbol",
     "securities registered pursuant|name of each exchange|trading symbol|12 b"),
)  # fmt: skip

STATEMENT_NAMES = {
    Part.BALANCE_SHEET: _listed(
        "balance sheet|statement of financial position|statements of financial position|"
        "statement of financial condition"
    ),
    Part.INCOME_STATEMENT: _listed(
        "income statement|statement of income|statements of income|statement of operations|"
        "statements of operations|statement of earnings|statements of earnings|p l statement|"
        "p l|profit and loss|statement of profit|statements of consolidated income"
    ),
    Part.CASH_FLOW: _listed(
        "cash flow statement|statement of cash flow|statements of cash flow|cashflow statement|"
        "statements of consolidated cash flow"
    ),
}
"""What the three statements are called, in questions as in titles."""

CONCEPTS: tuple[Concept, ...] = (
    *(_line(name, Part.INCOME_STATEMENT, a, w) for name, a, w in _INCOME_LINES),
    *(_line(name, Part.BALANCE_SHEET, a, w) for name, a, w in _BALANCE_LINES),
    *(_line(name, Part.CASH_FLOW, a, w) for name, a, w in _CASH_LINES),
    *(_ratio(*row) for row in _RATIOS),
    *(_topic(*row) for row in _TOPICS),
)
