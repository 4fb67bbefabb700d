"""Lists of words that the rules of English here go by."""

from __future__ import annotations


def _of(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAME = _of(
    "equipment information furniture luggage money news staff stock series species feedback status address bus gas analysis basis "
    "diagnosis virus bonus lens campus process access progress business class pass boss glass"
)
"""The same in the plural, or with an s of its own."""

VERBS = _of(
    "accept acknowledge activate add adjust allocate allow amend answer append apply approve archive arrange ask assign attach "
    "authorise authorize award ban begin bill block book borrow bring buy call cancel capture change charge check clear clone close "
    "comment complete confirm connect convert copy correct create credit deactivate debit decline decrease deduct delete deliver "
    "deny deploy deposit detach disable disconnect discontinue dispatch dismiss dispute drop duplicate edit enable end enrol enroll "
    "enter erase escalate exchange exclude execute expire extend favourite file fill finalise finalize finish fire flag follow "
    "forward freeze fulfil fulfill give grant group hand hide hire hold import include increase insert install invite invoice issue "
    "join keep label launch leave lend let link list load lock log lower make mark merge modify move mute name note notify offer "
    "open order pack park pass pause pay pin place plan post postpone prepare prescribe print process promote propose publish "
    "purchase push put quit raise rate reactivate read reassign receive reconcile record redeem redo reduce refill refund refuse "
    "register reject release remove rename renew rent reopen reorder repair replace reply report request reschedule reserve reset "
    "resolve respond restart restock restore resume retire return revert review revoke save schedule sell send separate set settle "
    "share ship show sign snooze split start stop store submit subscribe subtract suspend swap switch tag take terminate toggle top "
    "track transfer trigger turn unarchive unassign unban unblock unenrol unflag unfollow unlink unlock unmute unpin unpublish "
    "unregister unshare unsubscribe untag update upgrade upload upsert use validate verify void vote withdraw write"
)
"""That tools are described by, as they stand after "please"."""

EMPTY = _of(
    "the and for with from into that this what which when where who how can could would will please need want one two some any all "
    "its are was has have had not you your our their them they there new old get give make list show find search look set put take "
    "read add create update delete remove change send next last week today tomorrow tonight now then than also about for own time "
    "day days date name number text value item items thing only more most such each other same per"
)
"""Words that carry no meaning of their own."""

PEOPLE = _of(
    "person people user customer patient doctor physician nurse employee member contact author owner client guest student teacher "
    "agent assignee participant attendee reviewer manager driver passenger tenant buyer seller supplier applicant candidate "
    "recipient subscriber staff admin reporter requester approver creator editor writer visitor learner instructor trainer worker "
    "technician volunteer donor borrower reader"
)
"""Nouns of tables whose rows are persons."""

TITLES = _of("title subject summary headline heading topic caption name label")
"""Names of columns that hold what a row is called."""

LONG = _of(
    "description body text content comment comments message note notes remark remarks instructions details reason bio feedback "
    "words answer question abstract explanation justification memo purpose"
)
"""Names of columns that hold whole sentences."""

CODES = _of("code sku id uuid guid number reference ref slug isbn vin iban barcode serial key")
"""Names of columns that hold letters and digits."""

CHANGING = _of(
    "change set update move rename adjust edit correct switch reschedule raise reduce increase decrease modify extend"
)
"""Verbs after which a value is what something "should be"."""

PREPOSITIONS = _of("from to for by with at in into about on of")

PARTICIPLES = _of("sent paid made bought sold held built written taken given born begun found met won lost done")
"""Those that do not end in -ed."""

HOLDERS = _of(
    "folder project category list board channel group album playlist department city country region room warehouse library "
    "collection workspace team directory building section shelf store campaign portfolio basket cart course class classroom ward "
    "league zone district area branch catalogue catalog space repository forum topic thread"
)
"""Nouns of what things are in, not of."""
