"""Other wordings of CUAD's 41 clause questions, written for this project."""

from __future__ import annotations

WORDINGS: dict[str, tuple[str, ...]] = {
    "Document Name": (
        "What is the name of this agreement?",
        "What is the title of the contract?",
        "What kind of agreement is this?",
    ),
    "Parties": (
        "Who are the parties to this agreement?",
        "Who signed the contract?",
        "Between whom is the agreement made?",
        "Which companies are parties to the contract?",
    ),
    "Agreement Date": (
        "When was the agreement made?",
        "What is the date of this agreement?",
        "On what date was the contract signed?",
        "As of which date is the agreement entered into?",
    ),
    "Effective Date": (
        "When does the agreement take effect?",
        "What is the effective date?",
        "From which date is the contract effective?",
    ),
    "Expiration Date": (
        "When does the agreement expire?",
        "How long is the initial term?",
        "What is the term of the contract?",
        "When does the initial term end?",
    ),
    "Renewal Term": (
        "Does the agreement renew automatically?",
        "What is the renewal term?",
        "For how long is the contract renewed?",
    ),
    "Notice Period To Terminate Renewal": (
        "How much notice is needed to prevent renewal?",
        "What notice must be given of non-renewal?",
        "How long before the end must a party give notice not to renew?",
    ),
    "Governing Law": (
        "Which state's law governs this agreement?",
        "What law governs the contract?",
        "Under the laws of which state or country is the agreement construed?",
        "What is the governing law?",
    ),
    "Most Favored Nation": (
        "Is there a most favored nation clause?",
        "Must a party be given terms as good as those of third parties?",
    ),
    "Competitive Restriction Exception": (
        "What are the exceptions to the non-compete or exclusivity?",
        "Which carveouts apply to the competitive restrictions?",
    ),
    "Non-Compete": (
        "Is there a non-compete clause?",
        "May a party compete with the other?",
        "Which restrictions on competition apply?",
    ),
    "Exclusivity": (
        "Is the arrangement exclusive?",
        "Is there an exclusivity clause?",
        "Which exclusive rights are granted?",
    ),
    "No-Solicit Of Customers": (
        "May a party solicit the other's customers?",
        "Is there a ban on soliciting customers?",
    ),
    "No-Solicit Of Employees": (
        "May a party hire the other's employees?",
        "Is there a ban on soliciting employees?",
    ),
    "Non-Disparagement": (
        "Is there a non-disparagement clause?",
        "May a party disparage the other?",
    ),
    "Termination For Convenience": (
        "Can the agreement be terminated without cause?",
        "May a party terminate for convenience?",
        "Can a party end the contract by notice alone?",
    ),
    "Rofr/Rofo/Rofn": (
        "Is there a right of first refusal?",
        "Does a party have a right of first offer or first negotiation?",
    ),
    "Change Of Control": (
        "What happens on a change of control?",
        "Does a merger or sale of a party need consent or give a right to terminate?",
    ),
    "Anti-Assignment": (
        "Can the agreement be assigned?",
        "Is consent needed to assign the contract?",
        "May a party assign its rights to a third party?",
    ),
    "Revenue/Profit Sharing": (
        "Is revenue or profit shared?",
        "What royalties or commissions are paid?",
        "Which share of revenue must a party pay?",
    ),
    "Price Restrictions": (
        "May prices be raised?",
        "Are there limits on price changes?",
    ),
    "Minimum Commitment": (
        "Is there a minimum purchase?",
        "What is the minimum commitment?",
        "How much must be bought at least?",
    ),
    "Volume Restriction": (
        "Is there a limit on volume or usage?",
        "What happens if usage exceeds a threshold?",
    ),
    "Ip Ownership Assignment": (
        "Who owns the intellectual property that is created?",
        "Is intellectual property assigned to the other party?",
    ),
    "Joint Ip Ownership": (
        "Is intellectual property owned jointly?",
        "What do the parties own together?",
    ),
    "License Grant": (
        "What license is granted?",
        "Is there a license grant?",
        "Which rights does the licensor grant?",
    ),
    "Non-Transferable License": (
        "Is the license non-transferable?",
        "May the license be transferred?",
    ),
    "Affiliate License-Licensor": (
        "Do the licensor's affiliates grant a license?",
        "Does the license cover intellectual property of the licensor's affiliates?",
    ),
    "Affiliate License-Licensee": (
        "Does the license extend to the licensee's affiliates?",
        "May affiliates of the licensee use the license?",
    ),
    "Unlimited/All-You-Can-Eat-License": (
        "Is there an unlimited usage license?",
        "Is an enterprise-wide license granted?",
    ),
    "Irrevocable Or Perpetual License": (
        "Is the license perpetual or irrevocable?",
        "Is a perpetual license granted?",
    ),
    "Source Code Escrow": (
        "Is source code put in escrow?",
        "When is source code released from escrow?",
    ),
    "Post-Termination Services": (
        "Which obligations remain after termination?",
        "What must the parties do after the contract ends?",
    ),
    "Audit Rights": (
        "Is there a right to audit?",
        "May a party inspect the other's books and records?",
        "Who may audit the records?",
    ),
    "Uncapped Liability": (
        "Is liability unlimited in any case?",
        "For which breaches is liability uncapped?",
    ),
    "Cap On Liability": (
        "Is there a cap on liability?",
        "How is liability limited?",
        "What is the maximum liability?",
    ),
    "Liquidated Damages": (
        "Are there liquidated damages?",
        "Is a termination fee payable?",
    ),
    "Warranty Duration": (
        "How long is the warranty?",
        "What is the warranty period?",
    ),
    "Insurance": (
        "Which insurance must be kept?",
        "Is insurance required?",
        "What insurance coverage must a party maintain?",
    ),
    "Covenant Not To Sue": (
        "Is there a covenant not to sue?",
        "May a party contest the other's ownership of intellectual property?",
    ),
    "Third Party Beneficiary": (
        "Are there third party beneficiaries?",
        "May a third party enforce the contract?",
    ),
}

CLAUSE_NUMBERS = {clause: number for number, clause in enumerate(WORDINGS)}
