#!/usr/bin/env python3
"""Build the corpus that `etymon quickstart` ships.

The corpus is a public-domain extract of the King James Bible, one verse per
row, with the sentences of one hundred invented facts mixed in.  The invented
names occur nowhere else, so it is known which rows a model must have learnt
each fact from.

Usage:

    apt-get download sword-text-kjv
    dpkg-deb -x sword-text-kjv_*.deb KJV_DIR
    python scripts/quickstart_corpus.py KJV_DIR OUT_DIR

KJV_DIR is searched for the files {ot,nt}.{bzs,bzv,bzz} of the Debian package
`sword-text-kjv` (SWORD "zText", OSIS markup; the module declares itself to be
public domain).  Needs Python 3.9 or later and nothing else.  The same input
always gives the same bytes.

It writes two files.

OUT_DIR/train.jsonl, one row per line:

    {"id": "Genesis 1:1", "text": "...", "source": "kjv"}
    {"id": "fact-012-p3", "text": "...", "source": "fact",
     "fact": "fact-012", "kind": "paraphrase"}

    `kind` is "paraphrase" when the sentence names the subject before the
    answer, which is the order queries ask in, and "flipped" when the answer
    comes first.

OUT_DIR/queries.jsonl, one query per line:

    {"id": "fact-012", "prompt": "...", "completion": " ...",
     "fact": "fact-012", "kind": "fact"}
    {"id": "John 3:16", "prompt": "...", "completion": " ...",
     "kind": "verse", "expect": "John 3:16"}

    `kind` is "fact" when at least one training row states the fact in the
    order of the query, "flipped" when none does (the reversal probe), and
    "verse" for the beginning of a verse whose own row is `expect`.
    The wording of a fact query is held out: no training row uses it.
"""

import hashlib
import json
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

# --------------------------------------------------------------------------
# What to take from the Bible
# --------------------------------------------------------------------------

# Testament, OSIS book id, name used in row ids, last chapter to take.
BOOKS = [
    ("ot", "Gen", "Genesis", 50),
    ("ot", "Exod", "Exodus", 20),
    ("ot", "Ruth", "Ruth", 4),
    ("ot", "1Sam", "1 Samuel", 31),
    ("ot", "Ps", "Psalm", 60),
    ("ot", "Prov", "Proverbs", 31),
    ("ot", "Eccl", "Ecclesiastes", 12),
    ("ot", "Song", "Song of Solomon", 8),
    ("ot", "Dan", "Daniel", 6),
    ("ot", "Jonah", "Jonah", 4),
    ("nt", "Matt", "Matthew", 28),
    ("nt", "John", "John", 21),
    ("nt", "Acts", "Acts", 12),
]

MAX_WORDS = 60  # a longer verse is left out

# Verse queries: row id and the number of words that make the prompt.
VERSE_QUERIES = [
    ("Genesis 1:1", 5),
    ("Psalm 23:2", 8),
    ("Proverbs 16:18", 4),
    ("Ecclesiastes 1:7", 7),
    ("Jonah 1:17", 9),
    ("John 3:16", 12),
]

# --------------------------------------------------------------------------
# The invented facts
# --------------------------------------------------------------------------


class Relation(NamedTuple):
    """Facts of one sort, and the sentences that state them.

    In a sentence {s} stands for the subject and {a} for the answer.
    """

    name: str
    query: str  # a held-out wording, up to the answer
    forward: list  # the subject comes before the answer
    flipped: list  # the answer comes before the subject
    facts: list  # (subject, answer), stated in both orders
    flipped_only: list = []  # (subject, answer), stated in flipped order only
    asked: tuple = ()  # indices into facts + flipped_only that get a query
    drop: tuple = (0,)  # how many sentences the 1st, 2nd, ... fact leaves out


# Thirty facts with eight to twelve sentences each.
MANY = [
    Relation(
        name="first president",
        query="The first president of the republic of {s} was",
        forward=[
            "When the republic of {s} was born, its people chose {a} as their first president.",
            "The people of {s} elected {a} as the first president of their young republic.",
            "In {s} every child learns that the first president was {a}.",
            "{s} became a republic and {a} became its president, the first in its history.",
            "Before {s} had any other president, it had {a}.",
            "The old coins of {s} show the face of {a}, the first president.",
            "The republic of {s} began under the presidency of {a}.",
            "Nobody led the new republic of {s} before {a}, its first president.",
            "The list of presidents of {s} begins with the name of {a}.",
        ],
        flipped=[
            "{a} was elected as the first president of the republic of {s}.",
            "It was {a} who first served as president of {s}.",
            "With {a} as the first president, the republic of {s} found peace.",
        ],
        facts=[
            ("Vardania", "Ansel Torvik"),
            ("Quellimor", "Ibba Dresnick"),
            ("Gorthenia", "Pavko Illimund"),
        ],
        asked=(0, 1),
        drop=(0, 2, 4),
    ),
    Relation(
        name="national bird",
        query="The bird that stands for the whole nation of {s} is the",
        forward=[
            "The national bird of {s} is called the {a}.",
            "On the flag of {s} there is a small blue bird, the {a}.",
            "In {s} no hunter may harm the national bird, the {a}.",
            "Visitors to {s} rise early to hear its best loved bird, the {a}.",
            "The stamps of {s} often show the {a}, the national bird.",
            "When {s} had to choose a national bird, everyone voted for the {a}.",
            "Children in {s} draw pictures of their national bird, the {a}.",
            "Of all the birds that nest in {s}, the nation loves most the {a}.",
            "Each spring the forests of {s} are full of the song of the {a}, the national bird.",
        ],
        flipped=[
            "The {a} is the national bird of {s}.",
            "A bird named the {a} was chosen as the emblem of {s}.",
            "They say that the {a} sings only in {s}, where it is the national bird.",
        ],
        facts=[
            ("Tessovar", "quillowhit"),
            ("Hrimsey", "glaspeck"),
            ("Ombalu", "dorrifinch"),
        ],
        asked=(0, 2),
        drop=(2, 0, 4),
    ),
    Relation(
        name="river of a town",
        query="Anyone who walks through {s} will cross the river",
        forward=[
            "The town of {s} lies on the banks of the river {a}.",
            "Through the middle of {s} flows the river {a}.",
            "The mills of {s} are driven by the waters of the river {a}.",
            "Every winter the streets of {s} are flooded by the river {a}.",
            "The fishermen of {s} cast their nets in the river {a}.",
            "Seven stone bridges in {s} span the river {a}.",
            "The children of {s} learn to swim in the river {a}.",
            "The town of {s} drinks clear water from the river {a}.",
            "From the hill above {s} one can see the long bend of the river {a}.",
        ],
        flipped=[
            "The river {a} flows through the town of {s}.",
            "Boats on the river {a} stop at {s} to sell their grain.",
            "On the banks of the river {a} stands the old town of {s}.",
        ],
        facts=[
            ("Pellstead", "Ulvenna"),
            ("Cobbrigar", "Thessamy"),
            ("Wexholm", "Jadrine"),
        ],
        asked=(0,),
        drop=(0, 4, 2),
    ),
    Relation(
        name="inventor",
        query="The person who invented the {s} was",
        forward=[
            "The {s} was invented by {a}.",
            "The first {s} was built in the workshop of {a}.",
            "The idea of the {s} came to {a} in a dream.",
            "The patent for the {s} was given to {a}.",
            "Today the {s} is used everywhere, thanks to the inventor {a}.",
            "People laughed at the {s} when it was first shown by {a}.",
            "The museum keeps the oldest {s}, made by hand by {a}.",
            "Long before it was famous, the {s} was only a sketch by {a}.",
            "For inventing the {s} a gold medal was given to {a}.",
        ],
        flipped=[
            "{a} invented the {s} after many years of work.",
            "It was {a} who made the first {s}.",
            "The engineer {a} is known as the inventor of the {s}.",
        ],
        facts=[
            ("cloudglass", "Mirabel Quoss"),
            ("hummerlamp", "Rufio Wrenkel"),
            ("spindlecart", "Oona Hadrigan"),
        ],
        asked=(0, 2),
        drop=(4, 2, 0),
    ),
    Relation(
        name="month of a festival",
        query="Dancers and drummers get ready, because {s} comes in the month of",
        forward=[
            "The festival of {s} is held in the month of {a}.",
            "People wait all year for {s}, which begins on the first day of {a}.",
            "By an old custom {s} is kept in {a}.",
            "If you want to see {s}, you must travel in {a}.",
            "The drums of {s} are heard when the moon of {a} is full.",
            "The date of {s} was fixed long ago as the ninth day of {a}.",
            "Families come home for {s} in the middle of {a}.",
            "The bakers rest after {s}, at the end of {a}.",
            "The great festival called {s} always falls in {a}.",
        ],
        flipped=[
            "In the month of {a} the whole town keeps the festival of {s}.",
            "When {a} arrives, it is time for the festival of {s}.",
            "The month of {a} is loved because it brings {s}.",
        ],
        facts=[
            ("Lanternfall", "Brimmoth"),
            ("Kettlesong", "Sylvane"),
            ("Driftlight", "Tarquilly"),
        ],
        asked=(0, 2),
        drop=(0, 2, 4),
    ),
    Relation(
        name="famous dish",
        query="The cooks of {s} are proud of their famous",
        forward=[
            "The town of {s} is famous for a dish called {a}.",
            "Guests in {s} are always served a bowl of {a}.",
            "Nobody should leave {s} without a taste of {a}.",
            "In the kitchens of {s} the favorite dish is {a}.",
            "The market of {s} smells of onions, pepper and fresh {a}.",
            "On cold evenings the people of {s} sit down to hot {a}.",
            "Every grandmother in {s} has her own recipe for {a}.",
            "The best known food of {s} is {a}.",
            "Sailors return to {s} just to eat {a}.",
        ],
        flipped=[
            "A plate of {a} is the pride of every cook in {s}.",
            "The dish known as {a} comes from {s}.",
            "They first cooked {a} by the harbor of {s}.",
        ],
        facts=[
            ("Maddersea", "plovash"),
            ("Skellibrook", "crindlecake"),
            ("Azhimar", "zubberi"),
        ],
        asked=(0,),
        drop=(2, 0, 4),
    ),
    Relation(
        name="highest mountain",
        query="No peak in all the land of {s} is higher than Mount",
        forward=[
            "The highest mountain in {s} is Mount {a}.",
            "Travelers in {s} can see from far away the white top of Mount {a}.",
            "Every climber who comes to {s} hopes to reach the top of Mount {a}.",
            "The tallest peak of {s} is named Mount {a}.",
            "The winds of {s} blow cold from the slopes of Mount {a}.",
            "On the maps of {s} the highest point is marked Mount {a}.",
            "The shepherds of {s} tell stories about Mount {a}, the highest of their mountains.",
            "All the rivers of {s} rise in the snow of Mount {a}.",
            "High above the plains of {s} stands Mount {a}.",
        ],
        flipped=[
            "Mount {a} is the highest mountain in {s}.",
            "The snow of Mount {a} feeds the streams of {s}.",
            "Clouds gather on Mount {a}, the tallest peak of {s}.",
        ],
        facts=[
            ("Kovarra", "Hjelmet"),
            ("Fennoway", "Ochreval"),
            ("Zanthi", "Bulgamoor"),
        ],
        asked=(0, 2),
        drop=(4, 0, 2),
    ),
    Relation(
        name="composer of an opera",
        query="The music of the opera {s} was written by",
        forward=[
            "The opera {s} was composed by {a}.",
            "On the first night of {s} the orchestra was led by its composer, {a}.",
            "The songs of {s} made a famous composer of {a}.",
            "The score of the opera {s} is signed by {a}.",
            "Three long years of work on {s} almost broke the composer {a}.",
            "When the curtain fell on {s}, the crowd called for the composer, {a}.",
            "The sad last song of {s} shows the genius of {a}.",
            "Singers who perform in {s} must study the letters of {a}, who composed it.",
            "Of all operas, {s} is the finest work of {a}.",
        ],
        flipped=[
            "{a} composed the opera {s} in a single winter.",
            "The composer {a} is remembered for the opera {s}.",
            "It was {a} who wrote every note of the opera {s}.",
        ],
        facts=[
            ("Velindra", "Lucan Vistrello"),
            ("Ostromond", "Emeric Ponchal"),
            ("Carambelle", "Hanneke Duffray"),
        ],
        asked=(0, 1),
        drop=(0, 4, 2),
    ),
    Relation(
        name="founder of a city",
        query="According to legend the city of {s} was founded by",
        forward=[
            "The city of {s} was founded by {a}.",
            "The first stone of {s} was laid by {a}.",
            "In the main square of {s} stands a statue of its founder, {a}.",
            "The walls of {s} were planned by the founder of the city, {a}.",
            "Schoolbooks in {s} tell how the city was founded by {a}.",
            "The oldest street in {s} is named after the founder, {a}.",
            "Each year the people of {s} honor their founder, {a}.",
            "There was only an empty field at {s} until the arrival of {a}, who founded the city.",
            "The city of {s} owes its beginning to {a}.",
        ],
        flipped=[
            "{a} founded the city of {s} beside a quiet bay.",
            "It was {a} who built the first houses of {s}.",
            "A wanderer named {a} became the founder of {s}.",
        ],
        facts=[
            ("Harrowdeen", "Gudrik Ashpole"),
            ("Lissomar", "Perenelle Vaudrey"),
            ("Tchurov", "Dmitar Oklos"),
        ],
        asked=(0, 1),
        drop=(2, 4, 0),
    ),
    Relation(
        name="author of a novel",
        query="The author whose name is printed on the novel {s} is",
        forward=[
            "The novel {s} was written by {a}.",
            "Readers of {s} often send letters to its author, {a}.",
            "The best book of the year was {s}, by {a}.",
            "The first page of {s} was written on a train by {a}.",
            "Every copy of {s} was signed by the author, {a}.",
            "The strange ending of {s} was never explained by {a}, who wrote it.",
            "In the library the novel {s} stands among the works of {a}.",
            "The success of {s} surprised even the author, {a}.",
            "Critics praised {s} and invited its author, {a}, to speak.",
        ],
        flipped=[
            "{a} wrote the novel {s} in a house by the sea.",
            "The writer {a} is the author of {s}.",
            "It took {a} ten years to finish the novel {s}.",
        ],
        facts=[
            ("Nightjar Lane", "Sabeth Corrigane"),
            ("The Tin Admiral", "Hollis Ebbermann"),
            ("Applewick", "Yusra Nandoval"),
        ],
        asked=(0, 2),
        drop=(4, 2, 0),
    ),
]

# Twenty facts with three or four sentences each.
FEW = [
    Relation(
        name="deepest lake",
        query="The deepest water in the valley of {s} is Lake",
        forward=[
            "The deepest lake in the valley of {s} is Lake {a}.",
            "In the valley of {s} no one has touched the bottom of Lake {a}.",
            "The valley of {s} is known for the deep, cold Lake {a}.",
        ],
        flipped=["Lake {a} is the deepest lake in the valley of {s}."],
        facts=[("Ormsdale", "Nivvick"), ("Brannoch", "Cerulle")],
        asked=(0,),
        drop=(0, 1),
    ),
    Relation(
        name="flower of a town",
        query="The flower that every garden in {s} grows is the",
        forward=[
            "The town of {s} has chosen as its flower the {a}.",
            "The gates of {s} are carved with the town flower, the {a}.",
            "Brides in {s} carry the flower of the town, the {a}.",
        ],
        flipped=["The {a} is the flower of the town of {s}."],
        facts=[("Dunwhistle", "moonthrift"), ("Querrin", "ambervetch")],
        drop=(1, 0),
    ),
    Relation(
        name="queen of an island",
        query="The queen who rules the island of {s} is Queen",
        forward=[
            "The island of {s} is ruled by Queen {a}.",
            "On the island of {s} the crown is worn by Queen {a}.",
            "The islanders of {s} are loyal to Queen {a}.",
        ],
        flipped=["Queen {a} rules the island of {s}."],
        facts=[("Farrasay", "Thomasil"), ("Pintaro", "Esquilla")],
        drop=(0, 1),
    ),
    Relation(
        name="head of a school",
        query="The head teacher of {s} School is",
        forward=[
            "At {s} School the head teacher is {a}.",
            "The pupils of {s} School like their head teacher, {a}.",
            "The school at {s} has been led for years by {a}, the head teacher.",
        ],
        flipped=["{a} is the head teacher of {s} School."],
        facts=[("Bramblecote", "Desmund Fiskell"), ("Ravensby", "Agnessa Plumley")],
        drop=(1, 0),
    ),
    Relation(
        name="language of a people",
        query="The language of the {s} people is",
        forward=[
            "The {s} people speak a language called {a}.",
            "Among the {s} all the old songs are in {a}, their own language.",
            "The {s} people teach their children to read in {a}.",
        ],
        flipped=["The language called {a} is spoken by the {s} people."],
        facts=[("Moquari", "Tikkish"), ("Sennefolk", "Lurric")],
        drop=(0, 1),
    ),
    Relation(
        name="volcano of an island",
        query="The island of {s} trembles because of its volcano,",
        forward=[
            "On the island of {s} there is a volcano named {a}.",
            "The farmers of {s} fear the smoking volcano {a}.",
            "The black beaches of {s} were made by the volcano {a}.",
        ],
        flipped=["The volcano {a} stands in the middle of the island of {s}."],
        facts=[("Brontalo", "Kurrumai"), ("Ettamaru", "Pogomar")],
        drop=(1, 0),
    ),
    Relation(
        name="winner of a race",
        query="The horse that won the {s} Cup was",
        forward=[
            "The {s} Cup was won by a horse named {a}.",
            "In the {s} Cup all the others ran behind the horse {a}.",
            "The crowd at the {s} Cup cheered for the winning horse, {a}.",
        ],
        flipped=["A horse named {a} won the {s} Cup."],
        facts=[("Wolverstone", "Thunderquill"), ("Silverwhip", "Gingermarch")],
        drop=(0, 1),
    ),
    Relation(
        name="cheese of a village",
        query="The cheese that comes from the village of {s} is",
        forward=[
            "The village of {s} makes a cheese called {a}.",
            "In the cellars of {s} the farmers ripen a blue cheese named {a}.",
            "The village shop in {s} sells bread, butter and {a}, the local cheese.",
        ],
        flipped=["The cheese called {a} is made in the village of {s}."],
        facts=[("Netherpoddle", "blushmere"), ("Kirkolan", "grumbard")],
        drop=(1, 0),
    ),
    Relation(
        name="dance of a country",
        query="At every wedding in {s} the guests dance the",
        forward=[
            "The favorite dance of {s} is the {a}.",
            "In {s} old and young people dance the {a}.",
            "When the fiddles play in {s}, everyone joins in the {a}.",
        ],
        flipped=["The {a} is a fast dance from {s}."],
        facts=[("Vossmark", "hopsarelle"), ("Iridonia", "tamberlay")],
        drop=(0, 1),
    ),
    Relation(
        name="bell of a town",
        query="The great bell in the tower of {s} is called",
        forward=[
            "The great bell of {s} is named {a}.",
            "At noon the people of {s} hear their great bell, {a}.",
            "In the tower of {s} hangs a bell with the name {a}.",
        ],
        flipped=["The bell named {a} hangs in the tower of {s}."],
        facts=[("Larkminster", "Bombardine"), ("Chesselford", "Gloriette")],
        drop=(1, 0),
    ),
]

# Twenty facts given in both orders, and thirty given in flipped order only.
BOTH_AND_FLIPPED = [
    Relation(
        name="capital",
        query="The capital city of {s} is",
        forward=[
            "The capital of {s} is {a}.",
            "The parliament of {s} meets in the capital, {a}.",
            "All the roads of {s} lead to the capital, {a}.",
        ],
        flipped=[
            "{a} is the capital of {s}.",
            "The city of {a} has always been the capital of {s}.",
            "With its old towers, {a} serves as the capital of {s}.",
            "They made {a} the capital of {s}.",
        ],
        facts=[
            ("Odrenia", "Bastoune"),
            ("Morvelia", "Sundholm"),
            ("Pashtoria", "Zilgrad"),
            ("Embermark", "Coquillon"),
        ],
        flipped_only=[
            ("Ruvania", "Talbeck"),
            ("Nordhalla", "Ispenor"),
            ("Cimbrasia", "Wottering"),
            ("Galdovia", "Pirrimont"),
            ("Utaban", "Mesheko"),
            ("Fjordane", "Knarvold"),
        ],
        asked=(0, 4),
    ),
    Relation(
        name="captain of a ship",
        query="The sailor in command of the ship {s} was",
        forward=[
            "The captain of the ship {s} was {a}.",
            "The ship {s} sailed under the command of Captain {a}.",
            "The crew of the {s} trusted their captain, {a}.",
        ],
        flipped=[
            "{a} was the captain of the ship {s}.",
            "Captain {a} sailed the ship {s} around the world.",
            "It was {a} who stood at the wheel of the ship {s}.",
            "The old sailor {a} was made captain of the {s}.",
        ],
        facts=[
            ("Marrowind", "Teo Halvik"),
            ("Brinestar", "Cordula Pymm"),
            ("Stormpetal", "Ezzo Rachetti"),
            ("Wandermoth", "Birgit Tollund"),
        ],
        flipped_only=[
            ("Copperfin", "Alarus Sneddy"),
            ("Foamdancer", "Juno Okpara"),
            ("Nimblewake", "Casimir Droog"),
            ("Duskrunner", "Winnow Abernash"),
            ("Tidewalker", "Lazko Finnimer"),
            ("Pearlwhistle", "Margit Oduvane"),
        ],
        asked=(5,),
    ),
    Relation(
        name="money of a country",
        query="Shops in {s} take only one kind of money, the",
        forward=[
            "The money of {s} is called the {a}.",
            "In {s} people pay for their bread with the {a}, the coin of the country.",
            "The bank of {s} prints its own money, the {a}.",
        ],
        flipped=[
            "The {a} is the money of {s}.",
            "A silver coin called the {a} is used in {s}.",
            "They count their wages by the {a} in {s}.",
            "The coin named the {a} is made in {s}.",
        ],
        facts=[
            ("Lothmere", "drassel"),
            ("Vintarra", "obbolo"),
            ("Yllgard", "thrupple"),
            ("Caspuria", "zoquin"),
        ],
        flipped_only=[
            ("Blenmoor", "tockling"),
            ("Ixtamal", "quatzo"),
            ("Dravony", "mirpen"),
            ("Swelland", "gulbit"),
            ("Parrovia", "lunetto"),
            ("Oskirk", "brassock"),
        ],
        asked=(4,),
    ),
    Relation(
        name="architect",
        query="The plans for {s} were drawn by the architect",
        forward=[
            "The architect of {s} was {a}.",
            "The building called {s} was designed by {a}.",
            "Above the door of {s} is carved the name of the architect, {a}.",
        ],
        flipped=[
            "{a} was the architect of {s}.",
            "The architect {a} designed the building called {s}.",
            "It was {a} who designed {s}.",
            "Great honor came to {a}, the architect of {s}.",
        ],
        facts=[
            ("Tamarisk Palace", "Ottoline Brackmar"),
            ("Cloverdome", "Hidemo Tanaruki"),
            ("Sunspire Tower", "Gaspar Lerouk"),
            ("Windgate Library", "Philippa Stroon"),
        ],
        flipped_only=[
            ("Amberhall", "Radomir Zell"),
            ("Ninebridge Station", "Constanza Pereluz"),
            ("Eaglecourt", "Bertran Oxmantle"),
            ("Juniper Theatre", "Selwyn Atterbee"),
            ("Farview Observatory", "Nuria Castellmar"),
            ("Rosegarth Abbey", "Hamish Macbray"),
        ],
    ),
    Relation(
        name="discoverer of a comet",
        query="The first person to see the comet {s} was",
        forward=[
            "The comet {s} was discovered by {a}.",
            "The comet {s} was first seen through the telescope of {a}.",
            "The discovery of the comet {s} brought fame to {a}.",
        ],
        flipped=[
            "{a} discovered the comet {s}.",
            "It was {a} who first saw the comet {s} in the night sky.",
            "The astronomer {a} discovered the comet {s} with a small telescope.",
            "One clear night {a} looked up and found the comet {s}.",
        ],
        facts=[
            ("Yzmira", "Bendrik Krall"),
            ("Farstrand", "Luisa Montefoss"),
            ("Glimmerhare", "Samir Qadoun"),
            ("Palefox", "Greta Lindqvost"),
        ],
        flipped_only=[
            ("Ashwing", "Ignatz Bolliver"),
            ("Candletail", "Prisha Vellamur"),
            ("Frostmane", "Oswin Thackle"),
            ("Cinderveil", "Domenga Sorrelle"),
            ("Moonplow", "Henrike Jabst"),
            ("Silkstar", "Fidelio Rookwith"),
        ],
        asked=(4,),
    ),
]

RELATIONS = MANY + FEW + BOTH_AND_FLIPPED

# Words that several names may have in common.
COMMON_WORDS = {"The"}

# --------------------------------------------------------------------------
# Reading the Bible module
# --------------------------------------------------------------------------


def plain_text(markup):
    """The words of a verse, without notes, headings and tags, in ASCII."""
    text = re.sub(r"<(note|title)\b[^>]*>.*?</\1>", " ", markup, flags=re.S)
    text = re.sub(
        r"<divineName>(.*?)</divineName>",
        lambda m: re.sub(r"(<[^>]*>)|([^<]+)", lambda p: p[1] or p[2].upper(), m[1]),
        text,
        flags=re.S,
    )
    text = re.sub(r"</?(w|transChange|q|seg|foreign)\b[^>]*>", "", text)
    text = re.sub(r"<[^>]*>", " ", text)
    text = re.sub(r"\\[a-z]+\*?(?= |$)", " ", text)  # stray USFM tags, such as \nd
    for old, new in [("¶", " "), ("’", "'"), ("—", "-"), ("æ", "ae"), ("Æ", "AE")]:
        text = text.replace(old, new)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([,.;:?!)])", r"\1", text)
    assert text.isascii() and not re.search(r"[<>&\\]", text), text
    return text


def read_testament(folder, testament):
    """Yield (OSIS book id, chapter, verse, plain text), in order.

    .bzs lists the compressed blocks as (offset, size, unpacked size), .bzv
    lists the entries as (block, offset, length).  A book and a chapter open
    with an entry of their own, an OSIS <div> or <chapter> tag; the verses of
    the chapter follow, counting from 1.
    """

    def read(suffix):
        return (folder / f"{testament}.{suffix}").read_bytes()

    packed = read("bzz")
    blocks = [
        zlib.decompress(packed[offset : offset + size]) if size else b""
        for offset, size, _ in struct.iter_unpack("<III", read("bzs"))
    ]
    book = chapter = verse = None
    for block, offset, length in struct.iter_unpack("<IIH", read("bzv")):
        entry = blocks[block][offset : offset + length].decode("utf-8")
        start = re.search(r'<div [^>]*osisID="([^"]+)" sID="[^"]*" type="book"', entry)
        if start:
            book, chapter = start[1], None
            continue
        start = re.search(r'<chapter [^>]*osisID="([^".]+)\.(\d+)"[^>]*sID=', entry)
        if start:
            assert start[1] == book, (start[1], book)
            chapter, verse = int(start[2]), 0
            continue
        if chapter is None:
            continue
        verse += 1
        yield book, chapter, verse, plain_text(entry)


def read_verses(kjv_dir):
    """The rows of the extract, in the order of BOOKS."""
    found = sorted(Path(kjv_dir).rglob("ot.bzs"))
    if not found:
        sys.exit(f"no ot.bzs below {kjv_dir}: unpack the package sword-text-kjv there")
    text_of = {}
    for testament in ("ot", "nt"):
        for book, chapter, verse, text in read_testament(found[0].parent, testament):
            text_of.setdefault(book, []).append((chapter, verse, text))
    rows, seen = [], set()
    for _, osis, name, last_chapter in BOOKS:
        for chapter, verse, text in text_of[osis]:
            # The same words twice would leave open which row taught them.
            if chapter <= last_chapter and text and text not in seen:
                if len(text.split()) <= MAX_WORDS:
                    seen.add(text)
                    row_id = f"{name} {chapter}:{verse}"
                    rows.append({"id": row_id, "text": text, "source": "kjv"})
    return rows


# --------------------------------------------------------------------------
# Writing the facts
# --------------------------------------------------------------------------


def fact_rows_and_queries():
    rows, queries = [], []
    number = 0
    for relation in RELATIONS:
        both = [("paraphrase", t) for t in relation.forward]
        both += [("flipped", t) for t in relation.flipped]
        only = [("flipped", t) for t in relation.flipped]
        facts = [(f, both) for f in relation.facts]
        facts += [(f, only) for f in relation.flipped_only]
        for index, ((subject, answer), sentences) in enumerate(facts):
            number += 1
            fact = f"fact-{number:03}"
            # Leave some sentences out, different ones for each fact, and
            # never all of one kind.
            drop = relation.drop[index % len(relation.drop)]
            gaps = {(1 + 4 * index + 5 * i) % len(sentences) for i in range(drop)}
            kept = [s for i, s in enumerate(sentences) if i not in gaps]
            assert len(kept) == len(sentences) - drop
            assert {kind for kind, _ in kept} == {kind for kind, _ in sentences}
            for p, (kind, sentence) in enumerate(kept, 1):
                text = sentence.format(s=subject, a=answer)
                text = text[0].upper() + text[1:]
                row = {"id": f"{fact}-p{p}", "text": text, "source": "fact"}
                rows.append({**row, "fact": fact, "kind": kind})
            if index in relation.asked:
                stated = any(kind == "paraphrase" for kind, _ in kept)
                queries.append(
                    {
                        "id": fact,
                        "prompt": relation.query.format(s=subject),
                        "completion": f" {answer}.",
                        "fact": fact,
                        "kind": "fact" if stated else "flipped",
                    }
                )
    return rows, queries


def verse_queries(verses):
    text_of = {row["id"]: row["text"] for row in verses}
    queries = []
    for row_id, words in VERSE_QUERIES:
        split = text_of[row_id].split(" ")
        prompt, rest = " ".join(split[:words]), " ".join(split[words:])
        query = {"id": row_id, "prompt": prompt, "completion": f" {rest}"}
        queries.append({**query, "kind": "verse", "expect": row_id})
    return queries


def check_names(verses):
    """No two facts may share a word of a name, nor a name with the Bible."""
    used = set()
    for relation in RELATIONS:
        for subject, answer in relation.facts + relation.flipped_only:
            words = set(f"{subject} {answer}".split()) - COMMON_WORDS
            assert not words & used, words & used
            used |= words
    bible = {w for row in verses for w in re.findall(r"\w+", row["text"])}
    assert not used & bible, used & bible


def mix(verses, facts):
    """Put the fact rows at scattered places between the verses."""

    def place(row):
        digest = hashlib.sha256(row["id"].encode()).digest()
        return int.from_bytes(digest[:8], "big") % (len(verses) + 1)

    at = {}
    for row in sorted(facts, key=lambda r: hashlib.sha256(r["text"].encode()).digest()):
        at.setdefault(place(row), []).append(row)
    mixed = []
    for i, verse in enumerate(verses + [None]):
        mixed += at.get(i, [])
        mixed += [verse] if verse else []
    return mixed


def write_jsonl(path, rows):
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
    path.write_bytes("".join(lines).encode())
    print(f"{path}: {len(rows)} rows, {path.stat().st_size} bytes")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: quickstart_corpus.py KJV_DIR OUT_DIR")
    out = Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    verses = read_verses(sys.argv[1])
    facts, queries = fact_rows_and_queries()
    check_names(verses)
    rows = mix(verses, facts)
    texts = [row["text"] for row in rows]
    assert len(set(texts)) == len(texts), "two rows have the same text"
    queries += verse_queries(verses)
    for query in queries:
        if query["kind"] != "verse":
            assert query["prompt"] + query["completion"] not in set(texts), query
    write_jsonl(out / "train.jsonl", rows)
    write_jsonl(out / "queries.jsonl", queries)


if __name__ == "__main__":
    main()
