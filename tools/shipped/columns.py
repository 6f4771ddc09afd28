"""The places of the workflows' nodes: columns from left to right in the order in which data flows.

A column is named for what its nodes do, and stands where they begin at the left.
"""

PREPARING, LOADING, READING, APPLYING, SAMPLING, SAVING = -380, 40, 460, 920, 1340, 1720

TOP = 90  # of the first node in each
PICTURE_TOP = TOP + 405  # where the first picture stands below the loaders
PICTURE_STEP = 500  # from one picture to the next below it
SECOND_PICTURE = LOADING, PICTURE_TOP + PICTURE_STEP
BELOW_ENCODE = 560  # what stands under an Encode in the first row

LOAD_HEIGHT = 965  # of the frame around loaders and one picture
ROW_HEIGHT = 1140  # of the frame around Encode, Apply and a latent, one below the other
