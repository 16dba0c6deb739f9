"""The words of synthetic prompts: common, short, lower-case English, most of them one token to most tokenizers."""

# A block of text to be read as one; a list of literals would be a line a word.
WORDS = """
    able about above across act add afraid after again age ago agree air all allow almost alone along already also
    always among amount ancient angle animal answer any apple april area arm army around arrive art ask atom autumn
    baby back bad ball band bank bar base basic basket bath bean bear beat beauty bed before began behind believe
    bell belong below bench best better between big bird bit black block blood blow blue board boat body bone book
    born both bottom bought bowl box boy branch brave bread break bridge brief bright bring broad brother brown
    build burn bus busy butter button buy cake call camp can capital captain car card care carry case castle cat
    catch cause cell center century chain chair chance change chart check chest chief child choose church circle
    city claim class clean clear climb clock close cloth cloud coast coat coffee cold collect color column come
    common cook cool copper copy corn corner correct cost cotton count country course cover cow create cross crowd
    cry cup current cut dance dark date daughter day deal dear decide deep degree depend desert design desk develop
    dictionary die differ dinner direct discuss distance divide doctor dog dollar door double doubt down draw dream
    dress drink drive drop dry duck during dust duty each eager ear early earth ease east edge effect egg eight
    either electric element else empty end enemy energy engine enough enter equal evening event ever every exact
    example excite exercise expect experience eye face fact fair fall family famous far farm fast father favor fear
    feed feel feet fell felt fence few field fight figure fill final find fine finger finish fire first fish fit
    five flat floor flow flower fly follow food foot force forest form forward found four fraction free fresh friend
    front fruit full fun garden gas gather general gentle gift girl give glad glass go gold good govern grand grass
    gray great green grew ground group grow guess guide gun hair half hand happen happy hard hat have head hear
    heart heat heavy help high hill history hit hold hole home honest honey hope horse hot hotel hour house huge
    human hundred hunt hurry ice idea imagine inch industry insect instant instrument interest invent iron island
    join journey joy judge jump just keep key kind king kitchen knee knife know lady lake lamp land language large
    last late laugh law lay lead leaf learn least leather leave left leg lemon length less lesson letter level
    library lie life lift light like line lion liquid list listen little live local locate lone long look lost lot
    loud love low luck lunch machine magnet main make man many map march mark market mass master match material
    matter may mean measure meat medicine meet melody melt member metal method middle mile milk million mind mine
    minute mirror miss mix modern molecule moment money month moon morning most mother motion mount mouse mouth move
    much multiply music must name narrow nation nature near neck need neighbor never new next night nine noise noon
    north nose note nothing notice noun number object observe ocean offer office often oil old once only open opera
    operate opposite orange order organ original other over own oxygen page paint pair paper paragraph parent park
    part party pass past path pattern pay peace pen pencil people perfect perhaps period person phrase piano pick
    picture piece pilot pitch place plain plan plane planet plant play please plural pocket poem point poor popular
    port position possible post potato pound power practice prepare present press pretty print probable problem
    process produce product proper protect prove provide pull pupil push quart queen question quick quiet quite
    radio rain raise ran range rather reach ready real reason receive record red region remember repeat reply
    represent require rest result rice rich ride right ring rise river road rock roll roof room root rope rose round
    row rub rule run safe sail salt same sand save say scale school science score sea search season seat second
    secret section see seed seem segment select self sell send sense sentence separate serve set settle seven
    several shade shall shape share sharp sheet shell shine ship shoe shop shore short should shoulder shout show
    side sight sign silent silver similar simple since sing single sister six size skill skin sky sleep slow small
    smell smile smooth snow soap soft soil soldier solution solve some song soon sound south space speak special
    speech speed spell spend spoon spot spread spring square stage stair stand star start state station stay steam
    steel step stick still stone stop store storm story straight strange stream street stretch string strong student
    study subject substance success sudden suffix sugar suit summer sun supply support sure surface surprise swim
    syllable symbol system table tail take talk tall teach team teeth tell ten term test thank theater thick thin
    thing think third thought thousand thread three through throw thunder ticket tie time tiny tire together
    tomorrow tone tool top total touch toward town track trade train travel tree triangle trip trouble truck true
    try tube turn twenty two type uncle under unit until usual valley value vary verb very view village violin visit
    voice vowel wagon wait walk wall want war warm wash watch water wave way wear weather week weight welcome west
    wheel white whole wide wife wild will win wind window wing winter wire wise wish wonder wood wool word work
    world worry write wrong yard year yellow yesterday young zebra zero
""".split()  # noqa: SIM905
"""Changing them changes every seeded synthetic dataset: that is a breaking change."""
